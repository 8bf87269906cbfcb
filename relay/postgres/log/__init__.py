"""The log of a partition in PostgreSQL: blocks of events in tables, each a segment of the log."""
