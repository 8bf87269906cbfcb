"""What a log does in the event loop, wherever an engine stores the events: group commit, newest blocks, subscribers."""
