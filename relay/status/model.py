"""What relay says of itself: plain values, the same in the API's JSON, on the screen and in the metrics.

Times are Unix seconds, counts are since the start unless it says otherwise, rates are events per second.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from relay.histogram import Histogram
from relay.state import Doubt, FailingErasures, ParkedTotal

State = Literal["working", "refusing", "failing", "unauthorized", "paused", "broken"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusing:
    """A source has answered nothing but errors."""

    since: float
    status: int
    """Of the last one, and why."""
    reason: str
    deadline: float | None
    """When the sender stops for good; None: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStatus:
    """What a source has taken and refused."""

    source: str
    file: str
    """Of conf.d, that it is configured in."""
    accepted: int
    """Events."""
    unreadable: int
    """Entries that were no events, and are parked."""
    duplicates: int
    """Events that were left out because they had come before, since ever."""
    parked_now: int = 0
    """Entries that lie parked at it."""
    parked_removed: int = 0
    """Entries that lay parked at it until there was no room for them, ever."""
    requests: Mapping[str, int]
    """By the status of the answer, "403" or "429", or its class: "2xx", "4xx" (any other), "5xx"."""
    last: float | None
    """When events were accepted last."""
    rate: float
    refusing: Refusing | None
    ack: Histogram
    """Seconds from a request's headers to its 2xx."""
    incomplete: int = 0
    """Things that come in several requests and are known to lack one: segment syncs."""
    notice: str = ""
    """What the source has to say itself."""
    unknown_types: Sequence[str] = ()
    """Event types that came since the start and are not in the catalogue, up to 100."""
    secrets: Sequence[str] = ()
    """The settings that have its credentials, as in `LaneStatus.secrets`."""

    @property
    def refused(self) -> int:
        """Requests that were answered with an error."""
        return sum(number for status, number in self.requests.items() if status != "2xx")


@dataclass(frozen=True, slots=True, kw_only=True)
class LastError:
    """The last delivery that failed."""

    at: float
    reason: str
    status: int | None
    """What the destination answered, if it did over HTTP."""
    event_type: str = ""
    """Of one of its events; empty: not known."""
    event_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LastAlert:
    """The message of an alert that was tried last."""

    id: str
    at: float
    sent: bool
    problem: str
    """Why it was not sent; empty if it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertStatus:
    """How an alert is getting on."""

    alert: str
    type: str
    file: str
    """Of conf.d, that it is configured in."""
    told: Sequence[str]
    """What it has told to be wrong, and not yet to be over: "connector heap: failing"."""
    waiting: int
    """Messages that are not sent yet."""
    sent: int
    failed: int
    """Attempts that failed."""
    given_up: int
    """Messages that could not be sent for a day, and tests that failed."""
    failing: float | None
    """Since when no message could be sent, in Unix seconds; None: the last one was."""
    last: LastAlert | None
    """None: there was none yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneStatus:
    """How a connector's lane is getting on."""

    connector: str
    type: str
    file: str
    """Of conf.d, that it is configured in."""
    state: State
    """`refusing`: the destination has refused for good all that it was sent lately; `failing`: tried again by itself;
    `unauthorized`: the destination does not accept relay, tried again as well; `paused` by an admin; `broken`: stopped
    by an error of its own or not open yet, starts again by itself."""
    since: float | None
    """When that state began; None: it works."""
    paused_until: float | None = None
    """When a pause ends by itself; None: an admin ends it, or it is not paused."""
    unanswered: float = 0.0
    """For how many seconds the oldest attempt under way has had no answer; 0: none is under way."""
    breaker: Literal["closed", "open", "half-open"]
    next_try: float
    """Seconds until the destination is asked again; 0: it is not left alone."""
    accepted: int
    """Events since the lane began, ever; and so are the outcomes."""
    outcomes: Mapping[str, int]
    pending: int
    """Accepted events without an outcome yet."""
    oldest_pending: float | None
    """When the oldest of them was received; None: there is none, or it cannot be told."""
    rate: float
    """Events that get their outcome."""
    drained_in: float | None
    """Seconds until nothing is pending, if it goes on like this; None: never, or nothing moves."""
    last_error: LastError | None
    parked_now: int
    """Events that lie parked for it."""
    parked: int
    """Events that were parked, replays' included."""
    attempts: Mapping[str, int]
    """By what they came to."""
    attempt: Histogram
    """Seconds that attempts took."""
    end_to_end: Histogram
    """Seconds from an event's receipt to its delivery."""
    notice: str = ""
    """What the connector itself says that an admin should know."""
    secrets: Sequence[str] = ()
    """The settings that have its credentials, such as `token (credential "heap-token")`: never what is in them. Other
    tables that refer to the same credential or file are named: `token (file "/f"; source braze uses it, too)`."""
    parked_removed: int = 0
    """Events that lay parked for it until there was no room for them, ever."""
    parked_rate: float = 0.0
    """Events that are parked."""
    parked_full_in: float | None = None
    """Seconds until `parked.max_size` has the oldest parked events removed, if the destination goes on to refuse all;
    None: it does not, or there is no limit."""
    writes: str = ""
    """A file on this machine that it writes, if that is what it does."""
    batch_wait: float = 0.0
    """Seconds that an event may wait for its batch to be full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalStatus:
    """How full the journal is."""

    oldest: int
    """The first offset that can be read."""
    head: int
    """The offset behind the last event."""
    size: int
    """Bytes on disk."""
    needed: int
    """Bytes of them that some connector still needs."""
    capacity: int
    """Bytes that it may take."""
    full_in: float | None
    """Seconds until all of it is needed, if it goes on like this; None: never, or nobody can tell: it is full, or what
    it keeps has not grown steadily for a minute."""
    refusing: str | None
    """Why the last commit failed, if it was only now."""
    unsaved: str | None = None
    """Why relay.db could not be written at the last try: nothing can be parked, and connectors stop at their window."""
    bytes: int
    """Of the events accepted since the start."""
    failed: int
    """Commits that failed."""
    lost: int = 0
    """Events that could not be read: they are damaged, or somebody has removed them."""
    syncs: Histogram
    """Seconds that each commit's fdatasync took."""

    @property
    def fill(self) -> float:
        """Which part of its capacity is needed."""
        return self.needed / self.capacity if self.capacity else 0.0  # none is known while all workers are away


@dataclass(frozen=True, slots=True, kw_only=True)
class GoneConnector:
    """One that has run, and is not configured any more, or switched off."""

    connector: str
    pending: int
    """Of the events that it had yet to get when it ended, those that the journal still has."""
    disabled: bool = False
    """It is in conf.d, with `enabled = false`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerStatus:
    """The connections of a listener."""

    connections: int
    """Open now."""
    refused: Mapping[str, int]
    """Those that were refused or closed before a request was understood, by cause, since the start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateStatus:
    """A certificate that relay shows."""

    certificate: str
    """Whose it is: "ingest"."""
    begins: float
    ends: float
    """Unix seconds."""
    files: str = ""
    """Where certificate and key are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayStatus:
    """How far a replay is that is under way."""

    number: int
    connector: str
    settled: int
    """Of its events, those that have their outcome."""
    events: int
    rate: float
    """Events that get their outcome, beside those of the lane."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """One of several processes that do the work together."""

    worker: int
    away: bool
    """It does not answer, and is started again if it has died; the status has its part as it was seen last."""
    started: float | None
    """None: it was not seen yet."""
    memory: int
    journal: JournalStatus | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedReload:
    """A reload that was refused, with no good one since: conf.d is not what is in force."""

    at: float
    said: str
    """Its mistakes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """All of it, at one moment."""

    version: str
    now: float
    started: float
    cpu: float
    """Seconds of CPU that were used."""
    memory: int
    """Bytes in RAM."""
    sources: Sequence[SourceStatus]
    lanes: Sequence[LaneStatus]
    journal: JournalStatus
    parked: Sequence[ParkedTotal]
    dropped_log_lines: int = 0
    """Lines of the log that standard error did not take, since the start."""
    strays: int = 0
    """Requests to paths that no source has, since the start."""
    listeners: Mapping[str, ListenerStatus] = field(default_factory=dict)
    """By name: "ingest", "admin", "metrics"."""
    certificates: Sequence[CertificateStatus] = ()
    """Those in service, whatever the files hold by now."""
    replays: Sequence[ReplayStatus] = ()
    gone: Sequence[GoneConnector] = ()
    failing_erasures: Sequence[FailingErasures] = ()
    doubts: Sequence[Doubt] = ()
    """What an admin has to look at, and may accept."""
    alerts: Sequence[AlertStatus] = ()
    restart: Sequence[str] = ()
    """What the last reload has found that takes a restart, and waits for it: settings, and code of plugins."""
    refused_reload: RefusedReload | None = None
    """None: the last reload was good, or there was none."""
    workers: Sequence[WorkerStatus] = ()
    """Empty if one process does everything. Else all of the above is of all of them together."""
