"""Messages about what is on disk: the journal, the database, the clock."""

from typing import Final

from relay.log_messages.message import LogMessage

JOURNAL: Final = (
    LogMessage(
        "the journal takes no events",
        "error",
        "The disk is full or fails, or the journal is full. Senders get 503 and send again.",
        "Do what `reason` says. `relay status` names the connector that holds events.",
    ),
    LogMessage("the journal takes events again", "info", "A commit has succeeded after a failure."),
    LogMessage("the journal has room again", "info", "There is room for the next commit after a lack of room."),
    LogMessage(
        "journal fills up",
        "error",
        "More than 80 % of the room is needed for events that `connector` has not delivered."
        " Once the journal is full, senders get 503.",
        "Repair the connector's destination, or raise `journal.max_size`.",
    ),
    LogMessage("journal segments removed", "info", "Retention has removed old segments."),
    LogMessage(
        "a journal segment stays until nobody reads it",
        "info",
        "Somebody reads the table of a segment that is to be removed, such as a dump of the database.",
        "none; relay tries again. Until then the table takes room.",
    ),
    LogMessage(
        "unreadable rows are removed: they may name an erased user",
        "warning",
        "Rows of `table` were damaged. Nobody can read them, nor say whom they name, so an erasure has removed them.",
    ),
    LogMessage(
        "the log cannot be read",
        "error",
        "relay cannot look into the database for events of other nodes. `error` has the server's words.",
        "see the server. relay tries again, and deliveries go on with the events in memory.",
    ),
    LogMessage("the log can be read again", "info", "relay has looked into the database after a failure."),
    LogMessage(
        "events removed that were still needed",
        "error",
        "The journal is full, and `journal.on_full` is `expire_oldest`. These events count as expired.",
        "Raise `journal.max_size`, or repair the connector that holds events.",
    ),
    LogMessage(
        "commit failed by a bug",
        "error",
        "A commit has failed by an error that relay does not know. Senders get 503 and send again.",
        "Report the traceback.",
    ),
    LogMessage(
        "journal cut at its last whole record",
        "warning",
        "A crash has left a torn record at the end. The record was never acknowledged.",
    ),
    LogMessage(
        "the newest segment is damaged, relay goes on behind it",
        "error",
        "Acknowledged events of the newest segment cannot be read. They count as damaged.",
        "Run `relay journal check`, then `relay journal repair` with relay stopped, then `relay accept journal`.",
    ),
    LogMessage(
        "a file of the journal is no segment, and is set aside",
        "error",
        "The newest file does not begin as a segment. relay keeps the file as `NAME.log.damaged`.",
        "Look at the disk. If the file was a segment, put back a good copy and restart relay.",
    ),
    LogMessage(
        "events of the journal cannot be read",
        "error",
        "A place in the journal is damaged or removed. Connectors that need these events count them as damaged."
        " `repair_saves` says how many events of the file can be read.",
        "Put a good copy of the file back and restart relay, or stop relay and run `relay journal repair`.",
    ),
    LogMessage(
        "the journal is older than relay.db",
        "error",
        "The journal lacks events that `relay.db` knows. They count as damaged.",
        "If this is an old copy, stop relay and put the right journal back; else run `relay accept journal`.",
    ),
    LogMessage(
        "the journal is not where it was",
        "error",
        "The folder of the journal was moved or unmounted. Senders get 503 until the folder is back.",
        "Put the folder back, or mount its file system.",
    ),
    LogMessage(
        "a journal segment was removed, and is written again",
        "error",
        "Somebody has removed the segment that is written. relay has written the segment again. No event is lost.",
        "Find out who removes files in the journal's folder.",
    ),
    LogMessage(
        "a journal segment was truncated, and is written again",
        "error",
        "Somebody has truncated a segment. relay has written what was left and what memory held."
        " `lost` events count as damaged.",
        "Find out who truncates the file: logrotate with `copytruncate` does.",
    ),
    LogMessage(
        "journal segments were removed by somebody else",
        "error",
        "Older segments were removed, not by retention. Connectors that need their events count them as damaged.",
        "Put the files back and restart relay.",
    ),
    LogMessage(
        "ids of events cannot be kept, so that duplicates of them pass",
        "error",
        "The database of `dedupe` cannot be written. Events are taken; duplicates may pass.",
        "Look at `error`: the disk, or the rights of the state folder.",
    ),
    LogMessage(
        "ids of events are damaged and removed, so that duplicates of them pass",
        "error",
        "A database of `dedupe` is damaged. relay has removed the file. Duplicates of these events pass.",
        "Look at the disk if the line comes again.",
    ),
)

DATABASE: Final = (
    LogMessage(
        "relay.db does not know the journal",
        "error",
        "`relay.db` was lost, emptied, or copied without `relay.db-wal`. Connectors begin with the oldest event."
        " Events are delivered twice, none is lost.",
        "Pause what was paused, then run `relay accept journal`.",
    ),
    LogMessage(
        "relay.db is older than the journal",
        "error",
        "`relay.db` is an old copy. Connectors go on where this copy has them; events are delivered twice.",
        "Put the right `relay.db` back, or run `relay accept journal`.",
    ),
    LogMessage(
        "saving the cursors failed, will be tried again",
        "error",
        "The database does not take positions and counts. Deliveries go on;"
        " after a crash up to `window` events are sent twice.",
        "Look at `error`: the disk, or a lock on `relay.db`.",
    ),
    LogMessage(
        "saving the cursors failed at the stop",
        "error",
        "What was delivered since the last save is delivered again after the start.",
        "Look at `error`: the disk, or a lock on `relay.db`.",
    ),
    LogMessage(
        "another relay has taken over",
        "error",
        "Another relay has opened the state folder. This relay takes no events, and delivers none.",
        "Look at `reason`, which names the process. Stop one of the two. Restart this relay if this relay is to stay.",
    ),
    LogMessage(
        "looking for what admins ask failed, will be tried again",
        "error",
        "The database does not answer. Pauses, replays and the like wait.",
        "Look at `error`: the disk, or a lock on `relay.db`.",
    ),
    LogMessage(
        "saving what sources count failed",
        "error",
        "The database does not take the counts of sources. They are saved later. Events are taken.",
        "Look at `error`: the disk, or a lock on `relay.db`.",
    ),
    LogMessage(
        "cuts cannot be kept",
        "warning",
        "The folder `cuts` cannot be written. No event is lost."
        " After a crash events may go out in other batches, under other `Idempotency-Key`s.",
        "Look at `error`: often the disk is full.",
    ),
    LogMessage("cuts are kept again", "info", "The folder `cuts` can be written again."),
    LogMessage(
        "cuts cannot be read",
        "warning",
        "The batches that were on their way are unknown. After this start they may go out cut in another way.",
        "Look at `error`, and at the rights of the folder `cuts`.",
    ),
    LogMessage(
        "cuts are damaged",
        "warning",
        "Lines of a file in `cuts` are damaged. No event is lost. Batches may go out cut in another way.",
        "Look at the disk if there was no power cut.",
    ),
    LogMessage(
        "cuts of another journal are not used",
        "warning",
        "A file in `cuts` belongs to another journal. relay ignores the file.",
    ),
    LogMessage(
        "the clock is ahead",
        "error",
        "The clock is more than a day ahead of what relay knows. Nothing is removed for its age.",
        "Set the clock right. If the clock is right, run `relay accept clock`.",
    ),
    LogMessage("the clock is right again", "info", "What goes by age does so again."),
)
