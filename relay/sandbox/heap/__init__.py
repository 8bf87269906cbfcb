"""A stand-in for Heap: webhook, server-side API, segments."""
