"""The store in PostgreSQL: the partitions of a cluster, which several relays share.

How it fails and recovers: each method opens what it needs, and raises Unavailable without it. A failed call leaves
nothing behind. A partition that cannot be opened gives its lease back.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from relay.config import JournalSettings
from relay.postgres.cluster import Cluster, check_bar
from relay.postgres.connection import find_database
from relay.postgres.durability import check_durable
from relay.postgres.error import advise_on_restart
from relay.postgres.inbox import PostgresInbox
from relay.postgres.known_cluster import KnownCluster
from relay.postgres.lease import Lease, Leases
from relay.postgres.log.log import PostgresLog
from relay.postgres.nodes import ClusterMembership, read_processes
from relay.postgres.outage import Outage
from relay.postgres.partition_view import PostgresPartition
from relay.postgres.probe import read_health
from relay.postgres.process import Process
from relay.postgres.schema import add_partitions
from relay.postgres.state.alerts import ClusterAlerts
from relay.postgres.state.attempts import delete_attempts_of
from relay.postgres.state.cursor import delete_cursor
from relay.postgres.state.cuts import delete_cuts_of
from relay.postgres.state.doubts import ClusterDoubts
from relay.postgres.state.erasure_queries import ClusterErasures, forget_at_connector
from relay.postgres.state.history import ClusterHistory
from relay.postgres.state.parked_queries import ClusterParked
from relay.postgres.state.pauses import ClusterPauses, delete_pause
from relay.postgres.state.plugin_store import delete_stores_of
from relay.postgres.state.replays import ClusterReplays, delete_replays_of
from relay.postgres.state.state import PostgresState
from relay.postgres.usage import measure_tables
from relay.store import (
    Forgotten,
    JournalLimits,
    NodeProcess,
    ParkedQuery,
    StoreHealth,
    Unavailable,
    find_configured,
    merge_ledgers,
)
from relay.words import format_largest

_WORKED_WITH: Final = """
    SELECT partition FROM $.partition JOIN $.lease USING (partition)
    WHERE partition = 0 OR epoch > 0 OR partition IN (SELECT partition FROM $.segment) ORDER BY partition
"""
_DELETIONS: Final = (
    delete_cursor,
    delete_replays_of,
    delete_attempts_of,
    delete_pause,
    delete_cuts_of,
    delete_stores_of,
)
"""What deletes everything of a connector, in all partitions."""


class PostgresStore:
    """The store in one schema of a PostgreSQL database. See `relay.store.Store`."""

    def __init__(self, settings: JournalSettings, folder: Path) -> None:
        """Connect to nothing yet. `folder`: the state folder, which keeps nothing that another machine needs.

        Raises Unavailable if the dsn cannot be read here.
        """
        self._database = find_database(settings)
        self._cluster = cluster = Cluster(self._database)
        self.settings, self.schema = settings, self._database.schema
        self._known = KnownCluster(cluster, folder)
        self._leases = self._make_leases(worker=0)
        self._held: dict[int, Lease] = {}
        self._logs = WeakValueDictionary[int, PostgresLog]()
        self._membership: ClusterMembership | None = None
        self.place = cluster.place
        self.pauses, self.parked, self.replays = ClusterPauses(cluster), ClusterParked(cluster), ClusterReplays(cluster)
        self.erasures, self.history = ClusterErasures(cluster), ClusterHistory(cluster, settings.node_name)
        self.alerts, self.doubts = ClusterAlerts(cluster), ClusterDoubts(cluster, self._known)

    def _make_leases(self, worker: int) -> Leases:
        return Leases(self._database, Process(self.settings.node_name, worker), self.settings.lease)

    @property
    def shared_partitions(self) -> int:
        known = 0 if self._membership is None else self._membership.partitions
        return max(known, self.settings.partitions)

    def join(self, worker: int) -> ClusterMembership:
        if not worker:  # the other workers are of the same relay
            self._known.hold()
        with advise_on_restart():
            self._known.check()
            self._database.cluster = self._known.accept()
        with self._cluster.use_tables() as db:
            check_durable(db)
            add_partitions(db, self.settings.partitions)
        self._leases = self._make_leases(worker)
        membership = ClusterMembership(self._database, self._leases.process, self.settings.lease)
        membership.join()
        self._membership = membership
        self._database.outage = Outage()
        return membership

    def open(self, partition: int, limits: JournalLimits, memory: int) -> tuple[PostgresLog, PostgresState]:
        state = PostgresState(self._database, self._take_lease(partition))
        try:
            self._logs[partition] = log = PostgresLog(self._database, partition, limits, memory)
        except BaseException:
            state.close()
            raise
        state.now = min(state.now or 0, log.head)
        state.clock, state.when_taken = log.clock, log.fence
        return log, state

    def open_inbox(self, worker: int, limits: JournalLimits) -> PostgresInbox:
        slot = 0 if self._membership is None else self._membership.slot
        return PostgresInbox(self._database, slot, slot % self.shared_partitions, self._logs, limits)

    def _take_lease(self, partition: int) -> Lease:
        in_use = f"{self.view(partition).place} is in use by another relay"
        if partition in self._held and not self._held[partition].is_over:
            raise Unavailable(f"{in_use}: this process has opened it before", "busy")
        try:
            self._held[partition] = lease = self._leases.take(partition)
        except Unavailable as error:
            if error.reason == "busy":
                raise Unavailable(f"{in_use}: {error}", "busy") from error
            raise
        return lease

    def read_health(self) -> StoreHealth:
        with self._cluster.use_tables() as db:
            return read_health(db)

    def view(self, partition: int = 0) -> PostgresPartition:
        return PostgresPartition(self._cluster, partition, self._known)

    def view_all(self) -> list[PostgresPartition]:
        with self._cluster.use_tables() as db:
            return [self.view(partition) for (partition,) in db.run(_WORKED_WITH)]

    def read_processes(self) -> Sequence[NodeProcess]:
        with self._cluster.use_tables() as db:
            return read_processes(db)

    def forget(self, connector: str) -> Forgotten:
        known = merge_ledgers(lane for view in self.view_all() for lane in view.read_lanes())
        if connector not in known:
            raise LookupError(f"no connector {connector} has run; there are: {', '.join(known) or 'none'}")
        others = find_configured(one for one in self.read_processes() if one.node != self.settings.node_name)
        if connector in others:
            said = f"{connector} is still configured at node {', '.join(others[connector])}, by its last report"
            raise Unavailable(f"{said}: remove its table there, and reload, before", "busy")
        # In portions, and so before all else. The ledger goes after the parked events, so that the rest balances
        parked = sum(self.parked.drop(ParkedQuery(connector=connector)))
        with self._cluster.change() as db:
            for delete in _DELETIONS:
                delete(db, connector)
            erasures = forget_at_connector(db, connector)
        return Forgotten(connector, known[connector].pending, parked, erasures)

    def check_complete(self) -> None:
        with self._cluster.use_tables() as db:
            check_bar(db)

    def describe_usage(self, workers: int, files: Iterable[Path] = ()) -> str:
        with self._cluster.use_tables() as db:
            return format_largest(measure_tables(db))

    def describe_full_disk(self, workers: int) -> str:
        return ""

    def close(self) -> None:
        """Renew no lease any more, let go of the state folder, and close the connections that nobody uses."""
        self._leases.close()
        self._known.let_go()
        self._database.close()
