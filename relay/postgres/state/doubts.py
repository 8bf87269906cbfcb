"""What an admin has to know of logs and clocks, until the admin accepts it."""

from collections.abc import Iterator
from typing import Literal

from relay.postgres.cluster import Cluster, begin_change
from relay.postgres.connection import PostgresConnection
from relay.postgres.known_cluster import KnownCluster
from relay.postgres.state.damage import accept_damage, read_damage
from relay.postgres.state.journal_state import accept_clock, accept_log, read_doubt
from relay.store import ON_CLOCK, ON_LOSSES, Doubt, describe_damage, list_doubts


class ClusterDoubts:
    """The doubts of a cluster. See `relay.store.StoredDoubts`."""

    def __init__(self, cluster: Cluster, known: KnownCluster) -> None:
        self._cluster, self._known = cluster, known

    def find(self) -> list[Doubt]:
        found, partitions = find_other_cluster(self._known), self._cluster.list_partitions()
        with self._cluster.use_tables() as db:
            return found + [one for partition in partitions for one in find_doubts(db, partition)]

    def describe_accepting(self, what: Literal["journal", "clock"]) -> str:
        if what == "clock":
            return ON_CLOCK
        if self._known.describe_other():
            return f"accepting makes this node take part in the cluster that {self._cluster.place} holds now"
        return ON_LOSSES

    def accept(self, what: Literal["journal", "clock"]) -> list[str]:
        done = []
        if what == "journal":
            done = ["a relay that runs with this state folder takes part after a restart"] * bool(
                find_other_cluster(self._known)
            )
            self._known.accept()
        with self._cluster.use_tables() as db, db.transaction_of(begin_change()):
            if what == "clock":
                accept_clock(db)
            else:
                accept_log(db)
                accept_damage(db)
        return done


def find_other_cluster(known: KnownCluster) -> list[Doubt]:
    """Find whether the tables are another cluster's than the one that this node has worked with. Raises Unavailable."""
    other = known.describe_other()
    return [Doubt(worker=0, what="journal", said=other)] if other else []


def find_doubts(db: PostgresConnection, partition: int) -> Iterator[Doubt]:
    """Find the doubts of a partition."""
    doubt, ahead = read_doubt(db, partition)
    return list_doubts(partition, doubt, describe_damage(read_damage(db, partition)), ahead)
