"""relay's status as plain values, the same in the API's JSON, on the screen and in the metrics.

Times are Unix seconds. Counts are since the start, and rates are events per second, unless stated otherwise.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct, field

from relay.histogram import Histogram
from relay.store import Doubt, FailingErasures, ParkedTotal, StandbyCounts

State = Literal["idle", "working", "refusing", "failing", "unauthorized", "paused", "broken"]


class Refusing(Struct, frozen=True, kw_only=True):
    """A source answers nothing but errors."""

    since: float
    status: int
    """Status and reason of the last answer."""
    reason: str
    deadline: float | None
    """When the sender stops for good; None: unknown."""


class SourceStatus(Struct, frozen=True, kw_only=True):
    """What a source has taken and refused."""

    source: str
    file: str
    """The file of conf.d with its configuration."""
    accepted: int
    """Accepted events."""
    unreadable: int
    """Entries that were no events, and are parked."""
    duplicates: int
    """Events ever left out as duplicates."""
    parked_now: int = 0
    """Entries parked at the source now."""
    parked_removed: int = 0
    """Parked entries ever removed for lack of room."""
    requests: Mapping[str, int]
    """By the status of the answer, "403" or "429", or its class: "2xx", "4xx" (any other), "5xx"."""
    last: float | None
    """Time of the last accepted events."""
    rate: float
    refusing: Refusing | None
    ack: Histogram
    """Seconds from a request's headers to its 2xx."""
    incomplete: int = 0
    """Things in several requests of which a request is missing: segment syncs."""
    notice: str = ""
    """The source's own message."""
    unknown_types: Sequence[str] = ()
    """Event types since the start that are not in the catalogue, 100 at most."""
    secrets: Sequence[str] = ()
    """The settings with its credentials, as in `LaneStatus.secrets`."""

    @property
    def refused(self) -> int:
        """Requests answered with an error."""
        return sum(number for status, number in self.requests.items() if status != "2xx")


class LastError(Struct, frozen=True, kw_only=True):
    """The last failed delivery."""

    at: float
    reason: str
    status: int | None
    """The destination's HTTP status, if any."""
    event_type: str = ""
    """The type of one of its events; empty: unknown."""
    event_id: str = ""


class LastAlert(Struct, frozen=True, kw_only=True):
    """The last tried message of an alert."""

    id: str
    at: float
    sent: bool
    problem: str
    """Why it was not sent; empty if it was."""


class AlertStatus(Struct, frozen=True, kw_only=True):
    """The state of an alert."""

    alert: str
    type: str
    file: str
    """The file of conf.d with its configuration."""
    told: Sequence[str]
    """Conditions reported and not yet over: "connector heap: failing"."""
    waiting: int
    """Messages not sent yet."""
    sent: int
    failed: int
    """Failed attempts."""
    given_up: int
    """Messages that could not be sent for a day, and failed tests."""
    failing: float | None
    """Since when no message could be sent, in Unix seconds; None: the last one was sent."""
    last: LastAlert | None
    """None without any."""


class LaneStatus(Struct, frozen=True, kw_only=True):
    """The state of a connector's lane."""

    connector: str
    type: str
    file: str
    """The file of conf.d with its configuration."""
    state: State
    """`refusing`: the destination has lately refused all events for good; `failing`: relay tries again by itself;
    `unauthorized`: the destination does not accept relay, and relay tries again; `paused` by an admin; `broken`:
    stopped by an error of its own or not open yet, and starts again by itself; `idle`: no process that shares the
    partitions runs it now."""
    since: float | None
    """When that state began; None: the lane works."""
    paused_until: float | None = None
    """When a pause ends by itself; None: an admin ends it, or there is no pause."""
    paused_by: str = ""
    """Who paused it, if the history knows that."""
    unanswered: float = 0.0
    """Seconds that the oldest attempt under way has had no answer; 0: none is under way."""
    breaker: Literal["closed", "open", "half-open"]
    next_try: float
    """Seconds until the next attempt; 0: no backoff."""
    accepted: int
    """Events since the lane began, ever, like the outcomes."""
    outcomes: Mapping[str, int]
    own_outcomes: Mapping[str, int] | None = None
    """The outcomes since this process runs the lane, where all processes share the partitions; None: `outcomes`."""
    pending: int
    """Accepted events without an outcome."""
    oldest_pending: float | None
    """When the oldest pending event was received; None: none, or unknown."""
    rate: float
    """Events that get their outcome."""
    drained_in: float | None
    """Seconds until nothing is pending at this rate; None: never, or nothing moves."""
    last_error: LastError | None
    parked_now: int
    """Events parked for it now."""
    parked: int
    """Events that were parked, including those of replays."""
    attempts: Mapping[str, int]
    """Attempts by result."""
    attempt: Histogram
    """Seconds per attempt."""
    end_to_end: Histogram
    """Seconds from an event's receipt to its delivery."""
    notice: str = ""
    """The connector's own message."""
    secrets: Sequence[str] = ()
    """The settings with its credentials, such as `token (credential "heap-token")`, without their content. Other tables
    with the same credential or file are named: `token (file "/f"; source braze uses it, too)`."""
    parked_removed: int = 0
    """Parked events ever removed for lack of room."""
    parked_rate: float = 0.0
    """Events being parked."""
    parked_full_in: float | None = None
    """Seconds until `parked.max_size` removes the oldest parked events, if the destination keeps refusing all; None: it
    does not, or no limit."""
    writes: str = ""
    """The file on this machine that it writes, if any."""
    counted: Mapping[str, int] = field(default_factory=dict)
    """What the connector itself counts, by name."""
    batch_wait: float = 0.0
    """Seconds that an event may wait for a full batch."""


class JournalStatus(Struct, frozen=True, kw_only=True):
    """The fill level of the journal."""

    oldest: int
    """The first readable offset."""
    head: int
    """The offset behind the last event."""
    own_events: int | None = None
    """The events since this process runs the partitions, where all processes share them; None: `head`."""
    size: int
    """Bytes on disk."""
    needed: int
    """Bytes that some connector still needs."""
    capacity: int
    """Bytes that it may take."""
    full_in: float | None
    """Seconds until all of it is needed, at this rate; None: never, or unknown: it is full, or has not grown steadily
    for a minute."""
    refusing: str | None
    """Why the last commit failed, if that was just now."""
    unsaved: str | None = None
    """Why the last write to the database failed: nothing can be parked, and connectors stop at their window."""
    away: bool = False
    """The database that processes share does not answer. `refusing` and `unsaved` say why."""
    bytes: int
    """Bytes of events accepted since the start."""
    failed: int
    """Failed commits."""
    lost: int = 0
    """Unreadable events: damaged, or removed by somebody."""
    syncs: Histogram
    """Seconds per fdatasync of a commit."""

    @property
    def fill(self) -> float:
        """The needed share of its capacity."""
        return self.needed / self.capacity if self.capacity else 0.0  # none is known while all workers are away


class RemovedConnector(Struct, frozen=True, kw_only=True):
    """A connector that has run, and is not configured any more, or disabled."""

    connector: str
    pending: int
    """Its pending events that the journal still has."""
    later: int = 0
    """Events that came since it ended, and that the journal still has. It gets them, too, once it is added back."""
    disabled: bool = False
    """It is in conf.d with `enabled = false`."""


class ListenerStatus(Struct, frozen=True, kw_only=True):
    """The connections of a listener."""

    connections: int
    """Open connections."""
    refused: Mapping[str, int]
    """Connections refused or closed before a request was understood, by cause, since the start."""


class CertificateStatus(Struct, frozen=True, kw_only=True):
    """A certificate that relay serves."""

    certificate: str
    """Its owner: "ingest"."""
    begins: float
    ends: float
    """Unix seconds."""
    files: str = ""
    """The files of certificate and key."""


class ReplayStatus(Struct, frozen=True, kw_only=True):
    """The progress of a replay under way."""

    number: int
    connector: str
    settled: int
    """Its events with an outcome."""
    events: int
    rate: float
    """Events that get their outcome, beside those of the lane."""


class WorkerStatus(Struct, frozen=True, kw_only=True):
    """One of several workers."""

    worker: int
    away: bool
    """It does not answer, and is restarted if it has died. The status has its part as it was last."""
    started: float | None
    """None: it has not answered yet; without `away` it only starts."""
    memory: int
    journal: JournalStatus | None
    only_drains: bool = False
    """It takes nothing in, and ends once it has delivered and erased what it has: `runtime.workers` is lower now."""


class NodeStatus(Struct, frozen=True, kw_only=True):
    """A process of a node, one of those that share the partitions of a store."""

    node: str
    worker: int
    """The number of the process within its node."""
    state: Literal["running", "away", "stopped"]
    """`away`: it gives no sign of life, and others run its partitions; `stopped`: it has ended in good order."""
    host: str
    process: int
    """Its number on that machine."""
    version: str
    started: float
    seen: float
    """Its last sign of life."""
    memory: int | None
    """None: it has reported nothing yet, or in a way that this version does not know."""
    partitions: Sequence[int]
    """The partitions that it runs, or that nobody else may run yet."""
    differs: Sequence[str] = ()
    """Tables that its configuration has otherwise than that of the first running process, such as "connector.heap"."""
    lacks: Sequence[str] = ()
    """Connectors that only other processes have. Their events in the partitions of this one wait."""


class RefusedReload(Struct, frozen=True, kw_only=True):
    """A refused reload without a successful one since: conf.d is not in force."""

    at: float
    said: str
    """Its mistakes."""


class Status(Struct, frozen=True, kw_only=True):
    """The status at one moment."""

    version: str
    now: float
    started: float
    cpu: float
    """Used seconds of CPU."""
    memory: int
    """Bytes in RAM."""
    sources: Sequence[SourceStatus]
    lanes: Sequence[LaneStatus]
    journal: JournalStatus
    parked: Sequence[ParkedTotal]
    dropped_log_lines: int = 0
    """Log lines dropped since the start because standard error did not take them."""
    strays: int = 0
    """Requests to unknown paths since the start."""
    listeners: Mapping[str, ListenerStatus] = field(default_factory=dict)
    """By name: "ingest", "admin", "metrics"."""
    certificates: Sequence[CertificateStatus] = ()
    """Certificates in service, whatever the files hold by now."""
    replays: Sequence[ReplayStatus] = ()
    gone: Sequence[RemovedConnector] = ()
    failing_erasures: Sequence[FailingErasures] = ()
    doubts: Sequence[Doubt] = ()
    """Doubts that an admin may accept."""
    alerts: Sequence[AlertStatus] = ()
    restart: Sequence[str] = ()
    """What the last reload found to wait for a restart: settings, and code of plugins."""
    refused_reload: RefusedReload | None = None
    """None: the last reload succeeded, or there was none."""
    partitions: Sequence[int] = ()
    """The numbers of the partitions that run."""
    workers: Sequence[WorkerStatus] = ()
    """Empty with a single process. Otherwise everything above covers all workers together."""
    nodes: Sequence[NodeStatus] = ()
    """The processes that share the partitions; empty where each process has its own. Otherwise everything above covers
    all of them together."""
    waiting_partitions: Sequence[int] = ()
    """The partitions that no process runs now. Their events wait. Of such a partition, `lanes` have the ledgers and
    pauses, and `journal` has nothing."""
    unopened: Mapping[int, str] = field(default_factory=dict)
    """Why partitions cannot be opened, by number. Of several processes: those of the waiting partitions."""
    durability: str = ""
    """Where an acknowledged event is, such as "on the disk of 2 of 3 servers (ANY 1 of b, c)", if servers keep it."""
    unread: str = ""
    """Why this node cannot read what the partitions share: of parked events, erasures and doubts nothing is known."""
    store_problems: Sequence[str] = ()
    """What endangers or slows down these servers, each in a sentence with what to do."""
    standbys: StandbyCounts = field(default_factory=StandbyCounts)
    held_snapshots: int = 0
    """The snapshots that are held for so long that these servers get slower."""
    shares_partitions: bool = False
    """Whether processes share the partitions."""
    announces: bool = True
    """Whether this node tells what is true of all of them, and can read it."""
    unreachable_since: float | None = None
    """Since when this node has had no answer of what the partitions share; None: it answers."""
