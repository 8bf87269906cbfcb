"""The store in PostgreSQL: partitions that outlive any one machine, and that several relays share."""

from relay.postgres.connection import find_database
from relay.postgres.probe import Observation, observe
from relay.postgres.schema import make_sql, make_tables

__all__ = ["Observation", "find_database", "make_sql", "make_tables", "observe"]
