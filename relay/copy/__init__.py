"""Copies a whole store from one engine to the other: events, and everything that relay knows beside them."""

from relay.copy.contract import FIRST_TABLES, TABLES, LogPart, Side
from relay.copy.copy import ComparedCount, CopiedLog, CopyResult, copy_all, copy_logs, count_rest
from relay.copy.embedded import EmbeddedSide
from relay.copy.postgres import PostgresSide, open_postgres
from relay.journal import StoredRecord

__all__ = [
    "FIRST_TABLES",
    "TABLES",
    "ComparedCount",
    "CopiedLog",
    "CopyResult",
    "EmbeddedSide",
    "LogPart",
    "PostgresSide",
    "Side",
    "StoredRecord",
    "copy_all",
    "copy_logs",
    "count_rest",
    "open_postgres",
]
