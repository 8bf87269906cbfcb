"""Pauses of connectors, which hold in all partitions: the table `pause`. A running relay obeys within a second."""

from typing import Final

from relay.postgres.cluster import Cluster
from relay.postgres.connection import PostgresConnection, Values
from relay.store import Pause

_PAUSE: Final = """
    INSERT INTO $.pause (connector, since, until) VALUES (%s, $.unix_time(), %s::float8)
    ON CONFLICT (connector) DO UPDATE SET until = excluded.until WHERE pause.until IS DISTINCT FROM excluded.until
"""


class ClusterPauses:
    """The pauses of a cluster. See `relay.store.StoredPauses`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def pause(self, connector: str, until: float | None = None) -> bool:
        return self._change(_PAUSE, (connector, until))

    def resume(self, connector: str) -> bool:
        return self._change("DELETE FROM $.pause WHERE connector = %s", (connector,))

    def _change(self, statement: str, values: Values) -> bool:
        with self._cluster.change() as db:
            db.run("DELETE FROM $.pause WHERE until <= $.unix_time()")
            return db.run(statement, values).rowcount > 0

    def read(self) -> dict[str, Pause]:
        with self._cluster.use() as db:
            return read_pauses(db)


def read_pauses(db: PostgresConnection) -> dict[str, Pause]:
    """Read the present pauses."""
    query = "SELECT connector, since, until FROM $.pause WHERE until IS NULL OR until > $.unix_time()"
    return {connector: Pause(since, until) for connector, since, until in db.run(query)}


def delete_pause(db: PostgresConnection, connector: str) -> None:
    """Delete the pause of a connector, if there is a pause."""
    db.run("DELETE FROM $.pause WHERE connector = %s", (connector,))
