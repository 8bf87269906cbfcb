"""What every engine promises of the store: the partitions of one relay, and what is global to them.

Methods block: the daemon calls them in a thread. Each change is one transaction, all or nothing, and durable when the
method returns. A method whose name begins with `read`, `find`, `count`, `list` or `view` changes nothing. All methods
work whether relay runs or not, and raise Unavailable.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, Protocol

from msgspec import Struct, field

from relay.api import User
from relay.store.alert_message import AlertMessage, Tracks
from relay.store.doubt import Doubt
from relay.store.erasure import Erasure, FailingErasures
from relay.store.history import Entry, HistoryQuery
from relay.store.log import Appender, JournalLimits, Log
from relay.store.parked import Parked, ParkedGroup, ParkedQuery, ParkedTotal
from relay.store.partition_view import PartitionView
from relay.store.pause import Pause
from relay.store.replay import Replay
from relay.store.state import SourceState, State

NUMBERS: Final = 1_000_000_000
"""Distance between the numbers of two partitions' parked events and replays, so that each number is unique."""


def find_partition(number: int) -> int:
    """Return the partition of a parked event or a replay with this number."""
    return number // NUMBERS


class Forgotten(Struct, frozen=True):
    """What was removed of a connector."""

    connector: str
    pending: int
    """Events that the connector had yet to get."""
    parked: int
    erasures: int
    """Failed erasures that are not tried again."""


class NodeProcess(Struct, frozen=True, kw_only=True):
    """A process of a node, as others see it. Times are those of the store's clock, in Unix seconds."""

    node: str
    worker: int
    """The number of the process within its node."""
    state: Literal["running", "away", "stopped"]
    """`away`: it has given no sign of life for so long that others run its partitions; `stopped`: it has ended in good
    order."""
    host: str
    """The name of its machine."""
    process: int
    """Its number there."""
    version: str
    """The version of relay."""
    since: float
    """Its start."""
    silent: float
    """Seconds since its last sign of life."""
    partitions: Sequence[int]
    """The partitions that it runs, or that nobody else may run yet."""
    status: bytes = b""
    """Its last report of its status; b"" without any."""
    age: float = 0.0
    """Seconds since that report."""
    tables: Mapping[str, str] = field(default_factory=dict)
    """A digest of each table of its configuration, by the name of the table."""


def find_configured(processes: Iterable[NodeProcess]) -> dict[str, list[str]]:
    """Return the connectors of running processes, each with the nodes that have it in their configuration. Pure."""
    found: dict[str, list[str]] = {}
    for one in processes:
        for table in one.tables if one.state == "running" else ():
            kind, _, name = table.partition(".")
            if kind == "connector" and one.node not in (nodes := found.setdefault(name, [])):
                nodes.append(one.node)
    return found


class StandbyCounts(Struct, frozen=True):
    """How many synchronous standbys a commit can wait for."""

    named: int = 0
    """Those that the rule of the server names."""
    needed: int = 0
    """Those that each commit waits for."""
    connected: int = 0
    """Those that are connected. With fewer than `needed`, no commit returns."""


class StoreHealth(Struct, frozen=True):
    """What the store knows of the servers that it stands on."""

    durability: str = ""
    """Where an acknowledged event is, such as "on the disk of 2 of 3 servers (ANY 1 of b, c)"; "": on this machine."""
    problems: Sequence[str] = ()
    """What endangers the store or slows it down, each in a sentence with what to do."""
    standbys: StandbyCounts = StandbyCounts()
    held_snapshots: int = 0
    """The snapshots that somebody holds for so long that updates get slower."""


class StoredPauses(Protocol):
    """Pauses of connectors, which outlast a restart. They hold in all partitions."""

    def pause(self, connector: str, until: float | None = None) -> bool:
        """Pause a connector until a time (Unix seconds) or until `resume`; return False if it is paused as long
        already."""

    def resume(self, connector: str) -> bool:
        """Resume a connector; return False if it was not paused."""

    def read(self) -> Mapping[str, Pause]:
        """Return the present pauses by connector."""


class StoredParked(Protocol):
    """The parked events of all partitions, by number or selection."""

    def read(
        self, which: ParkedQuery, *, bodies: bool = True, newest: bool = False, after: int | None = None
    ) -> Iterator[Parked]:
        """Yield parked events by number: those of each partition from the oldest on.

        `bodies`: whether to read their bodies. `newest`: as `order_newest`, with the newest events up to `limit`.
        `after`: go on behind the event with this number, in either order. A slow caller has few events in memory, and
        delays nobody. Use the iterator in one thread.
        """

    def read_groups(self, which: ParkedQuery) -> list[ParkedGroup]:
        """Group parked events, whatever `limit` is; return the MOST_GROUPS largest groups, the largest first."""

    def read_totals(self) -> list[ParkedTotal]:
        """Return the totals by source, connector and cause, with the removed events."""

    def count(self, which: ParkedQuery) -> int:
        """Return the number of these parked events."""

    def drop(self, which: ParkedQuery) -> Iterator[int]:
        """Delete parked events for good in portions, each a transaction; yield the number of each.

        The ledger still counts the events as parked. Use the iterator in one thread.
        """

    def mark(self, which: ParkedQuery) -> Iterator[int]:
        """Request a replay of parked events in portions, each a transaction; yield the number of each.

        Skips events parked at a source. Use the iterator in one thread.
        """


class StoredReplays(Protocol):
    """Replays of all partitions. A running relay begins a requested replay within a second."""

    def ask(self, replay: Replay, partition: int = 0) -> int:
        """Request a replay from one partition; return its number, unique over all partitions."""

    def cancel(self, number: int) -> bool:
        """End a replay where it is; return False if it does not run or wait."""

    def read(self) -> list[Replay]:
        """Return all replays, the last one first."""


class StoredErasures(Protocol):
    """Erasures and their receipts. Every partition erases the users of every erasure."""

    out_of_reach: str
    """Where the store leaves copies of erased data for a while that relay cannot remove, for receipts; "": nowhere."""

    def ask(self, user: User, asked_by: str = "") -> int:
        """Request an erasure; return its number. `asked_by`: who asks; the receipt keeps it."""

    def read(self) -> list[Erasure]:
        """Return all erasures, each once over all partitions, the newest first."""

    def find_failing(self) -> list[FailingErasures]:
        """Find the failing erasures, each once however many partitions fail."""

    def count(self, after: int, since: float) -> tuple[int, int, int]:
        """Count the erasures that events have requested.

        Return the number beyond `after`, the number done from `since` on (Unix seconds), and the highest number.
        """


class StoredHistory(Protocol):
    """The history: what happened, when, and by whom."""

    def add(self, entries: Sequence[Entry], keep: float = 0.0, most: int = 0) -> None:
        """Write entries. Delete those older than `keep` seconds or beyond the last `most`; 0: no limit."""

    def read(self, query: HistoryQuery | None = None) -> list[Entry]:
        """Return the selected entries by their times, the last one last."""

    def find_last_run(self) -> tuple[str, float] | None:
        """Find the last start or stop of relay on this node, or what was restored or copied here since. Return the kind
        and Unix seconds, or None if no run is known.

        "started" means that the run did not end by a stop.
        """

    def find_done(self, since: float) -> list[Entry]:
        """Find replays, and erasures requested by admins, that ended from this time on and are not in the history
        yet."""


class StoredAlerts(Protocol):
    """What alerts remember, and their messages. Only the process that sends alerts changes anything."""

    def read(self, names: Collection[str]) -> tuple[Mapping[str, Tracks], list[AlertMessage]]:
        """Return the memory of these alerts, and their messages, the oldest first."""

    def save_tracks(self, alert: str, tracks: Tracks, messages: Sequence[AlertMessage]) -> None:
        """Save the memory of an alert and its new messages, all or nothing."""

    def save_message(self, message: AlertMessage) -> None:
        """Save a message. Of the messages that need not be sent any more the last MESSAGES_KEPT stay."""

    def forget(self, kept: Collection[str]) -> None:
        """Delete the memory and the messages of all alerts but these."""


class StoredDoubts(Protocol):
    """What an admin has to know of the journal and the clock, until the admin accepts it."""

    def find(self) -> list[Doubt]:
        """Return the doubts of all partitions."""

    def describe_accepting(self, what: Literal["journal", "clock"]) -> str:
        """Describe in a sentence what accepting the journal or the clock does."""

    def accept(self, what: Literal["journal", "clock"]) -> list[str]:
        """Accept the journal with its losses, or the machine's clock.

        Return sentences on other journals, and on what is lost for good.

        Every connector gets all events of a journal that its state does not know. A lost journal begins anew, and gives
        no offset a second time.
        """


class Inbox(Protocol):
    """Takes in the events of one process, also while the process runs no partition."""

    @property
    def events(self) -> Appender:
        """Appends to some partition: to one that this process runs, if there is any."""

    @property
    def first(self) -> Appender:
        """Appends to partition 0. An id that `events` has appended is a duplicate here, and the other way round.

        Where each process has its own partition, this is `events`. Taps and counts are those of `events`.
        """

    @property
    def outage(self) -> str | None:
        """Why nothing can be stored for the time being; None while it can, and on a disk of its own."""

    @property
    def sources(self) -> SourceState:
        """Keeps what sources leave beside their events: counts and memories are those of this process."""

    def set_limits(self, limits: JournalLimits) -> None:
        """Use other limits from the next commit on."""

    async def close(self) -> None:
        """Finish the commits under way. Closes no partition."""


class Membership(Protocol):
    """The place of one process among all that share the partitions. Methods block."""

    def find_wanted(self, failing: Collection[int] = ()) -> Collection[int]:
        """Tell the other processes that this one runs; return the partitions that it is to run now.

        `failing`: partitions that this process could not open lately. They are left to other processes.

        Call it about every half second, from one thread at a time. The process opens the partitions that it does not
        run yet. It finishes what is under way in those that it is to run no more, and closes them. If this raises
        Unavailable, the process goes on with what it runs.
        """

    def report(self, status: bytes, tables: Mapping[str, str]) -> None:
        """Leave a status of this process for the others, and digests of the tables of its configuration. Call it every
        few seconds."""

    def leave(self) -> None:
        """Tell the other processes that this one runs no more, once its partitions are closed."""


class Store(Protocol):
    """All partitions of one relay, numbered from 0. One process at a time works with a partition."""

    @property
    def place(self) -> str:
        """Where the store is, for messages."""

    @property
    def shared_partitions(self) -> int:
        """The number of partitions that all processes share, as `Membership` says.

        0: each process has the partition of its own number for as long as it runs. Other processes may add partitions
        meanwhile: the number is then larger after the next `Membership.find_wanted`.
        """

    @property
    def pauses(self) -> StoredPauses:
        """Pauses of connectors."""

    @property
    def parked(self) -> StoredParked:
        """Parked events."""

    @property
    def replays(self) -> StoredReplays:
        """Replays."""

    @property
    def erasures(self) -> StoredErasures:
        """Erasures."""

    @property
    def history(self) -> StoredHistory:
        """The history."""

    @property
    def alerts(self) -> StoredAlerts:
        """The memory and the messages of alerts."""

    @property
    def doubts(self) -> StoredDoubts:
        """Doubts."""

    def open(self, partition: int, limits: JournalLimits, memory: int) -> tuple[Log, State]:
        """Open the events and the state of a partition, for this process alone until both are closed.

        `memory`: bytes of recent events in memory. If another process has the partition, or opening fails, nothing is
        open.
        """

    def open_inbox(self, worker: int, limits: JournalLimits) -> Inbox:
        """Open the inbox of the process with this number. If the process has its own partition, open that before."""

    def join(self, worker: int) -> Membership:
        """Join the processes that share the partitions, as the process with this number; run nothing yet.

        Raises Unavailable with the reason "busy" if a process of the same name and number runs elsewhere.
        """

    def read_processes(self) -> Sequence[NodeProcess]:
        """Return the processes that share the partitions, and those that lately did, by node and number.

        Where each process has its own partition, there are none.
        """

    def read_health(self) -> StoreHealth:
        """Read how safe acknowledged events are, and what is wrong with the servers of the store."""

    def view(self, partition: int = 0) -> PartitionView:
        """Return a partition for reading. It may not exist yet."""

    def view_all(self) -> Sequence[PartitionView]:
        """Return every partition that a process ever worked with, by number, always with the first one."""

    def forget(self, connector: str) -> Forgotten:
        """Remove everything of a connector that does not run.

        Raises LookupError if the connector never ran, and Unavailable with the reason "busy" if another node has it
        configured.
        """

    def check_complete(self) -> None:
        """Raise Unavailable if no relay starts with the store: a restore or a copy was broken off, or the journal was
        copied elsewhere. The text says what to do."""

    def describe_usage(self, workers: int, files: Iterable[Path] = ()) -> str:
        """Describe what fills the store's disk, the largest part first; "" if the engine does not know.

        `workers`: the configured number. `files`: files that connectors write elsewhere.
        """

    def describe_full_disk(self, workers: int) -> str:
        """Describe a full disk, and what to do; "" if it is not full, or the engine does not know."""


def name_partition(store: Store, number: int) -> str:
    """Name a partition for people: where each process has its own partition, people know the worker."""
    return f"{'partition' if store.shared_partitions else 'worker'} {number}"
