"""The store in PostgreSQL: partitions that outlive any one machine, and that several relays share."""

from relay.postgres.cluster import Cluster
from relay.postgres.connection import Database, Lasting, PostgresConnection, find_database
from relay.postgres.known_cluster import KnownCluster
from relay.postgres.log.segments import make_table
from relay.postgres.probe import Observation, observe
from relay.postgres.schema import check_tables, make_sql, make_tables
from relay.postgres.state.plugin_store import TableStores
from relay.postgres.store import PostgresStore

__all__ = [
    "Cluster",
    "Database",
    "KnownCluster",
    "Lasting",
    "Observation",
    "PostgresConnection",
    "PostgresStore",
    "TableStores",
    "check_tables",
    "find_database",
    "make_sql",
    "make_table",
    "make_tables",
    "observe",
]
