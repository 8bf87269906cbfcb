"""Finds what fills the tables of a cluster."""

from collections import Counter
from typing import Final

from relay.postgres.connection import PostgresConnection

_TABLES: Final = """
    SELECT relname, pg_total_relation_size(pg_class.oid)
    FROM pg_class WHERE relkind = 'r' AND relnamespace = %s::regnamespace
"""
_LOGS: Final = "SELECT name, partition FROM $.segment"


def measure_tables(db: PostgresConnection) -> dict[str, int]:
    """Return the bytes that events, parked events and all else take, the largest first."""
    events = {name: f"events of partition {partition}" for name, partition in db.run(_LOGS)}
    names = events | {"parked": "parked events", "plugin_store": "stores of connectors", "seen": "ids of events"}
    found = Counter[str]()
    for table, size in db.run(_TABLES, (db.schema,)):
        found[names.get(table, "other tables")] += size
    return dict(found.most_common())
