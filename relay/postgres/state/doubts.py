"""What an admin has to know of logs and clocks, until the admin accepts it."""

from collections.abc import Iterator
from typing import Final, Literal

from relay.postgres.cluster import Cluster, begin_change
from relay.postgres.connection import PostgresConnection
from relay.postgres.known_cluster import KnownCluster
from relay.postgres.state.damage import accept_damage, read_damage
from relay.postgres.state.journal_state import accept_clock, accept_log, read_doubt
from relay.store import ON_CLOCK, ON_LOSSES, Doubt, describe_damage, list_doubts
from relay.words import format_ranges

_HELD: Final = """
    SELECT partition, min(base), (SELECT stop FROM $.find_end(partition)) FROM $.segment GROUP BY partition ORDER BY 1
"""


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
            with self._cluster.use_tables() as db:
                held = _describe_held(db)
            said = f"accepting makes this node take part in the cluster that {self._cluster.place} holds now: {held}"
            gone = "events, parked events, positions and pauses of the other cluster are lost if they are not there"
            return f"{said}; {gone}, and relay cannot tell which"
        return ON_LOSSES

    def accept(self, what: Literal["journal", "clock"]) -> list[str]:
        done, partitions = list[str](), self._cluster.list_partitions()
        if what == "journal":
            done = ["a relay that runs with this state folder takes part after a restart"] * bool(
                find_other_cluster(self._known)
            )
            self._known.accept()
        with self._cluster.use_tables() as db, db.transaction_of(begin_change()):
            if what == "clock":
                accept_clock(db)
            else:
                lost = ((partition, describe_damage(read_damage(db, partition))) for partition in partitions)
                done += [f"partition {partition}: for good, {said}" for partition, said in lost if said]
                accept_log(db)
                accept_damage(db)
        return done


def _describe_held(db: PostgresConnection) -> str:
    """Say which events the tables hold, by partition."""
    held = db.run(_HELD).fetchall()
    with_events = [(partition, oldest, stop) for partition, oldest, stop in held if stop > oldest]
    said = [f"offsets {format_ranges([(oldest, stop)])} in partition {number}" for number, oldest, stop in with_events]
    return ", ".join(said) or "no events"


def find_other_cluster(known: KnownCluster) -> list[Doubt]:
    """Find whether the tables are another cluster's than the one that this node has worked with. Raises Unavailable."""
    other = known.describe_other()
    return [Doubt(worker=0, what="journal", said=other)] if other else []


def find_doubts(db: PostgresConnection, partition: int) -> Iterator[Doubt]:
    """Find the doubts of a partition."""
    doubt, ahead = read_doubt(db, partition)
    return list_doubts(partition, doubt, describe_damage(read_damage(db, partition)), ahead)
