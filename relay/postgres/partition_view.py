"""One partition as a bystander reads it, also while a process has its lease."""

import socket
from collections.abc import Mapping, Sequence

from relay.postgres.cluster import Cluster
from relay.postgres.known_cluster import KnownCluster
from relay.postgres.log.view import PostgresLogView
from relay.postgres.state.attempts import find_attempts_at
from relay.postgres.state.cursor import load_cursors
from relay.postgres.state.damage import was_damaged
from relay.postgres.state.doubts import find_doubts, find_other_cluster
from relay.postgres.state.erasure_queries import has_open_erasures
from relay.postgres.state.journal_state import read_head
from relay.postgres.state.ledger import read_all_sources
from relay.postgres.state.parked_queries import (
    find_parked_at,
    has_marked,
    read_parked_offsets,
    read_parked_totals,
)
from relay.postgres.state.replays import find_replays_over, read_open_replays
from relay.store import (
    Attempts,
    Doubt,
    LaneLedger,
    Parked,
    ParkedTotal,
    Replay,
    SourceLedger,
    find_acknowledged_head,
)


class PostgresPartition:
    """One partition of a cluster. See `relay.store.PartitionView`."""

    def __init__(self, cluster: Cluster, number: int, known: KnownCluster) -> None:
        self.number = number
        self.place = f"partition {number} of {cluster.place}"
        self._cluster, self._known = cluster, known

    def is_in_use(self) -> bool:
        return self._holds("until > clock_timestamp()")

    def find_process(self) -> int | None:
        query = """
            SELECT process FROM $.lease WHERE partition = %s AND until > clock_timestamp() AND host = %s
        """
        with self._cluster.use_tables() as db:
            row = db.run(query, (self.number, socket.gethostname())).fetchone()
        return None if row is None else row[0]

    def has_state(self) -> bool:
        return self._holds("epoch > 0")

    def _holds(self, condition: str) -> bool:
        """Return whether a condition holds for the row of the lease."""
        query = f"SELECT FROM $.lease WHERE partition = %s AND {condition}"
        with self._cluster.use_tables() as db:
            return db.run(query, (self.number,)).fetchone() is not None

    def has_work(self) -> bool:
        if not self.has_state():
            return True
        with self._cluster.use() as db:
            asked = (
                read_open_replays(db, self.number) or has_marked(db, self.number) or has_open_erasures(db, self.number)
            )
        return bool(asked) or any(lane.ledger.pending for lane in self.read_lanes())

    def view_log(self) -> PostgresLogView:
        return PostgresLogView(self._cluster, self.number, self.read_acknowledged())

    def read_acknowledged(self) -> int:
        with self._cluster.use_tables() as db:
            return max(read_head(db, self.number), find_acknowledged_head(load_cursors(db, self.number)))

    def read_lanes(self) -> list[LaneLedger]:
        with self._cluster.use() as db:
            return load_cursors(db, self.number)

    def read_lanes_if_any(self) -> list[LaneLedger]:
        with self._cluster.use_tables() as db:
            return load_cursors(db, self.number)

    def read_sources(self) -> list[SourceLedger]:
        with self._cluster.use() as db:  # a process takes events in for all partitions
            return [] if self.number else read_all_sources(db)

    def read_parked_offsets(self) -> Mapping[str, Sequence[int]]:
        with self._cluster.use() as db:
            return read_parked_offsets(db, self.number)

    def read_parked_totals(self) -> list[ParkedTotal]:
        with self._cluster.use() as db:
            return read_parked_totals(db, self.number)

    def find_parked_at(self, offsets: Sequence[int]) -> list[Parked]:
        with self._cluster.use() as db:
            return find_parked_at(db, self.number, offsets)

    def find_attempts_at(self, offset: int) -> list[Attempts]:
        with self._cluster.use() as db:
            return find_attempts_at(db, self.number, offset)

    def find_replays_over(self, offset: int) -> list[Replay]:
        with self._cluster.use() as db:
            return find_replays_over(db, self.number, offset)

    def was_damaged(self, offset: int) -> bool:
        with self._cluster.use() as db:
            return was_damaged(db, self.number, offset)

    def find_doubts(self) -> list[Doubt]:
        other = [] if self.number else find_other_cluster(self._known)
        with self._cluster.use_tables() as db:
            return [*other, *find_doubts(db, self.number)]
