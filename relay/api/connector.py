"""The base of every connector: one class, one settings model, one method that matters.

Batching, selection, filters, retries, pace, parking and the cursor are the lane's; a connector only delivers.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from inspect import iscoroutinefunction
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    Self,
    TypedDict,
    TypeVar,
    TypeVarTuple,
    Unpack,
)

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from relay.api.batch import Batch
from relay.api.blocking import LeftBehind, Threads, release
from relay.api.event import Event
from relay.api.json_parts import value_in
from relay.api.outcome import Answered, Outcome, Skipped, check
from relay.api.plugin import Plugin
from relay.api.settings import ByteSize, Contradiction, Duration, EventSelection, Rate, Settings, StartAt

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def _status(text: str) -> str:
    if not re.fullmatch(r"[1-5]\d\d", text):
        raise ValueError(f"expected an HTTP status of three digits, such as 409, got {text!r}")
    return text


def _groups(value: object) -> object:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


Status = Annotated[str, AfterValidator(_status), WithJsonSchema({"type": "string", "pattern": r"^[1-5]\d\d$"})]


Group = Literal["type", "source", "hour"]
"""What the events of a group have in common; `hour` is that in which relay received them, in UTC."""


class BatchSettings(Settings):
    """When a batch is full: at `events` events or `size` bytes, or once its first event has waited for `age`."""

    events: int = Field(default=1000, ge=1, le=100_000)
    """Most events in a batch."""
    size: ByteSize = Field(default=1 << 20, ge=1)
    """Most bytes in a batch."""
    age: Duration = Field(default=0.003, le=3600)
    """How long the first event of a batch waits for more events. With `align` the default is as long as `align`."""
    align: Duration = Field(default=0.0, ge=0, le=3600)
    """Ends a batch where the time of receipt passes a multiple of this, in UTC: `"5m"` ends it at 12:00, 12:05 and so
    on. 0: it does not.

    The batch ends then even if no event comes afterwards. `events` and `size` may end it earlier: raise them. `age` may
    not be shorter than `align`. A connector with `order_by`, or of a type that keeps an order, cannot have it.
    """
    group_by: Annotated[tuple[Group, ...], BeforeValidator(_groups, json_schema_input_type=Group | list[Group])] = ()
    """What all events of a batch have in common: `"type"`, `"source"`, `"hour"` (UTC, of receipt), or several of them.

    A full batch is divided into its groups, and each group is sent by itself. `events` and `size` are about all groups
    together. The position moves on once all groups are delivered. A connector with `order_by`, or of a type that keeps
    an order, cannot have it.
    """

    @model_validator(mode="after")
    def _age_of_aligned(self) -> Self:
        if self.align > self.age and "age" not in self.model_fields_set:
            vars(self)["age"] = self.align
        return self

    def contradictions(self) -> Iterator[Contradiction]:
        """A batch lasts until the next multiple of `align`."""
        if self.align > self.age and "age" in self.model_fields_set:
            yield "age align", f"age ({self.age:g}s) must be at least align ({self.align:g}s), or be left out"


class RetrySettings(Settings):
    """Waits between attempts, with full jitter: before attempt n + 1 a random wait of 0 to min(`max`, `first` *
    2^(n-1))."""

    first: Duration = Field(default=1.0, gt=0)
    """Longest wait before the second attempt. The longest wait doubles with each further attempt."""
    max: Duration = Field(default=300.0, gt=0)
    """Longest wait between two attempts. It is at least `first`."""
    give_up_after: Duration = Field(default=0.0, ge=0)
    """Parks events that could not be delivered for so long. 0: relay tries for ever.

    If a batch fails as a whole, only events that fail alone are parked. The time in which the destination does not
    accept relay at all (`unauthorized`) does not count.
    """

    def contradictions(self) -> Iterator[Contradiction]:
        """The first wait is not the longest."""
        if self.first > self.max:
            yield "first max", f"first ({self.first:g}s) must be at most max ({self.max:g}s)"


class ConnectorSettings(Settings):
    """Settings of every connector; a connector type adds its own."""

    type: str
    """Type of the connector: a type below, or the type of a plugin."""
    enabled: bool = True
    """Whether the connector runs. A connector that is switched off keeps its position, but the journal does not keep
    events for it.

    A connector that is switched on again goes on at its position. Events that have left the journal count as expired.
    The same holds for a connector that is removed or renamed, and comes back under its name.
    """
    from_: StartAt = Field(default="now", alias="from")
    """Where the connector begins when it runs for the first time: `"now"`, `"oldest"` (of the journal), or a time such
    as `"2026-11-01T00:00Z"`."""
    events: EventSelection = ("*",)
    """Which events the connector gets: groups, channels, event types or globs. A leading `!` excludes.

    An event is selected if an entry matches it and no `!` entry does. A list of `!` entries alone starts from
    everything. `*` does not select `cohort.Change`: name that type to select it.
    """
    filters: tuple[str, ...] = ()
    """Names of `[filter.NAME]` tables, in the order in which relay applies them."""
    batch: BatchSettings = BatchSettings()
    """When a batch is full: at so many events, at so many bytes, or after so long."""
    retry: RetrySettings = RetrySettings()
    """Random waits between attempts, which double up to `max`.

    relay keeps to a Retry-After of the destination, up to an hour.
    """
    timeout: Duration = Field(default=30.0, gt=0, le=3600)
    """How long a delivery may take. After that it has failed, and relay tries again."""
    open_timeout: Duration = Field(default=30.0, gt=0, le=3600)
    """How long the connector may take to get ready, at the start and after a change. After that relay tries again."""
    concurrency: int = Field(default=4, ge=1, le=256)
    """Most batches under way at a time. How many relay sends at once depends on how fast and how well the destination
    answers."""
    window: int = Field(default=10_000, ge=1)
    """Most events that may be sent again after a crash. A larger batch goes out alone."""
    memory: ByteSize = Field(default=16 << 20, ge=1)
    """Memory for events that are under way, or that wait for an earlier event of their key. It is never less than
    `concurrency` batches need."""
    answers: dict[Status, Literal["deliver", "retry", "reject", "pause"]] = Field(default_factory=dict)
    """What an HTTP status of the destination means, where the usual meaning is wrong: `{ 409 = "retry", 404 = "reject"
    }`.

    `"deliver"`: the events are delivered. `"retry"`: relay tries again. `"reject"`: relay parks the events that the
    destination refuses. `"pause"`: the connector is `unauthorized`, and waits until the destination accepts it. It
    counts for `heap` and `http`, and for plugins that use `self.post` or `self.check`.
    """
    order_by: str = ""
    """A field such as `"user.user_id"`: events with the same value are delivered in order, through all retries. Empty:
    no order.

    relay reads the field after the filters. Events of other values go on, up to `window` events and `memory` beyond the
    first event that waits.
    """
    after_parked: Literal["deliver", "park"] = "deliver"
    """What happens to the events behind a parked event, with `order_by`. `"deliver"`: relay delivers them. `"park"`:
    relay parks them too, until the parked event is replayed or dropped.

    With `"park"` these events have the cause `order`, and a batch has one event of each value.
    """
    rate: Rate = Field(default=0, ge=0)
    """Most events per second. 0: no limit.

    Events that cause no request do not count: events that the connector skips or parks by itself.
    """


class BatchDefaults(TypedDict, total=False):
    """Defaults of a connector type for settings of `batch`, written as in conf.d."""

    events: int
    size: str
    age: str
    align: str
    group_by: Group | list[Group]


class RetryDefaults(TypedDict, total=False):
    """Defaults of a connector type for settings of `retry`, written as in conf.d."""

    first: str
    max: str
    give_up_after: str


class ConnectorDefaults(TypedDict, total=False):
    """What a connector's class may say behind its type: `class Lake(Connector, type="lake", batch={"age": "1m"})`."""

    batch: BatchDefaults
    retry: RetryDefaults


class OtherId(NamedTuple):
    """An id of a user that is neither Braze's nor an external id."""

    kind: str
    """`device_id`, `email`, or `alias:LABEL`."""
    id: str


@dataclass(frozen=True, slots=True)
class User:
    """A user to be erased, by all ids that relay knows."""

    user_id: str | None = None
    """Braze's id."""
    external_ids: tuple[str, ...] = ()
    """Yours."""
    other_ids: tuple[OtherId, ...] = ()
    """Device ids and e-mail addresses that stand in events of the user, and what the request named."""


class Connector(Plugin):
    """A named destination. Subclass it with a type name and write `deliver`.

    `batch` and `retry` behind the type are defaults of those tables; what an admin writes replaces each by itself."""

    Settings: ClassVar[type[Settings]] = ConnectorSettings
    _noun: ClassVar[str] = "connector"
    takes: ClassVar[tuple[str, ...]] = ()
    """The event types that it can make use of, for `relay check`; empty: all."""
    by_type: ClassVar[tuple[str, ...]] = ()
    """The settings that are tables by event type, for `relay check`: it tells of types that are not known."""
    erases_by: ClassVar[str] = ""
    """The setting without which `erase` leaves everybody where they are, for `relay check`; empty: there is none."""

    def __init_subclass__(cls, type: str = "", **defaults: Unpack[ConnectorDefaults]) -> None:
        if strange := defaults.keys() - ConnectorDefaults.__annotations__.keys():
            raise TypeError(f"{cls.__name__}: only batch and retry stand behind the type, not {', '.join(strange)}")
        super().__init_subclass__(type=type, **defaults)
        if type and (cls.deliver is Connector.deliver or not iscoroutinefunction(cls.deliver)):
            raise TypeError(f"connector type {type}: {cls.__name__} needs a method `async def deliver(self, batch)`")

    def __init__(self, name: str, settings: ConnectorSettings, *, folder: Path) -> None:
        self.name = name
        self.settings: Any = settings
        self.folder = folder
        """relay's state folder; relative paths in settings start here."""
        self.notice = ""
        """A sentence for admins on what stops no delivery; the connector sets it, `relay status` shows it."""
        self.worker = 0
        """The number of the process that it runs in, from 0, if relay runs several (`runtime.workers`)."""
        self.min_free = 0
        """`journal.min_free`, in bytes: a connector that fills the file system of the state folder leaves more than
        that free, so that senders are not refused."""

    @cached_property
    def http(self) -> "aiohttp.ClientSession":
        """An HTTP session of the connector's own: pooled connections, no cookies; with `HttpConnectorSettings` on the
        way that these say, else without a proxy."""
        from relay.api.http import make_session

        return make_session(self.settings.concurrency, self.settings.timeout, self.run_blocking, self.settings)

    @cached_property
    def _threads(self) -> Threads:
        return Threads(f"connector {self.name}", self.settings.concurrency, self.work_in_threads)

    @cached_property
    def work_in_threads(self) -> LeftBehind:
        """What `run_blocking` is doing, also for who no longer waits for it; for relay to look at."""
        return LeftBehind()

    async def run_blocking(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Do work that blocks in a thread of the connector's own, and return what it returns: for files, pipes, and
        libraries that know no asyncio. Never use `asyncio.to_thread`: its threads are shared by all plugins.

        There are `concurrency` threads; further work waits for its turn. Work that has begun goes on in its thread when
        the delivery runs into `timeout`; the lane does not try those events again until the thread is back.
        """
        return await self._threads.run(work, *arguments)

    async def post(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        method: str = "POST",
        answer_size: int = 64 << 10,
        answer_seconds: float = 1.0,
    ) -> Answered:
        """Send a request; return what a 2xx answer said, raise `Retry`, `Reject` or `Unauthorized` for all else
        (`check`).

        Of the answer's body `answer_size` bytes are read, for `answer_seconds`, and never longer than three quarters of
        the time that the delivery has left; `Answered.complete` says whether that is all of it. Ask for more where the
        body says what became of single events.

        Network errors are `Retry`; reasons name the host and never the URL's query. Redirects are not followed. Headers
        that say where the request ends, such as Content-Length, raise ValueError: they are relay's.
        """
        from relay.api.http import Limits, send

        limits = Limits(answer_size, answer_seconds)
        return await send(self.http, method, url, body, headers, self.settings.answers, limits)

    def check(self, answer: "aiohttp.ClientResponse") -> None:
        """`relay.api.check` with what the connector's setting `answers` says."""
        check(answer, answers=self.settings.answers)

    async def reach(self, url: str) -> str:
        """Connect to the host of a URL, with TLS if it says https, send nothing, and say what was reached; for `probe`.

        Raises `Retry` with what is wrong, after 5 seconds at most.
        """
        from relay.api.http import reach

        return await reach(url, self.run_blocking, self.settings)

    @property
    def keeps_order(self) -> bool:
        """Whether any events have to stay in order: `order_by` is set, or the class has a `key` of its own."""
        return bool(self.settings.order_by) or type(self).key is not Connector.key

    @property
    def alone(self) -> bool:
        """Whether one process has to deliver all of its events, if relay runs several (`runtime.workers`): because it
        keeps an order or a rate. Override it for a destination that several processes must not write to."""
        return self.keeps_order or bool(self.settings.rate)

    @property
    def writes(self) -> Path | None:
        """A file on this machine that it writes, for what `relay doctor` and `relay status` say to do when that fails;
        None: it is not for this machine to keep the events."""
        return None

    def key(self, event: Event) -> str | None:
        """What the event has to stay in order with: none of one key is sent before an earlier one is settled, or with
        it in one batch. None: nothing. By default the value at `order_by`. A connector that answers per event must
        not answer `Retry` for one and then deliver a later one of its key."""
        path = self.settings.order_by.split(".")
        try:
            value: Any = event.data
        except ValueError:  # for something that need not be read
            value = value_in(event.body, path)
        else:
            for name in path:
                value = value.get(name) if isinstance(value, dict) else None
        return None if value is None else str(value)

    async def open(self) -> None:
        """Get ready; called before the first delivery.

        It may take `open_timeout`, and may be cancelled at any await. An exception is told with its text, and holds up
        this connector alone: `close` is called and, some seconds later, `open` once more."""

    async def probe(self) -> str | None:
        """Look whether the destination can be reached, and say what was found; raise what is wrong, such as `Retry`.

        Sends no events and changes nothing; may be called before `open`. None: only sending would tell. Prefer to
        pass: a destination that answers anything at all is there.
        """
        return None

    async def deliver(self, batch: Batch) -> Sequence[Outcome] | None:
        """Hand the batch to the destination.

        Return None if all was delivered, or one outcome per event; raise `Retry`, `Reject` or `Unauthorized` for the
        whole batch. Called for up to `concurrency` batches at a time; may be cancelled at any await. What it says after
        that does not count. Let `UnreadableEvent` pass, which parks the events that cannot be read.
        """
        raise NotImplementedError

    async def erase(self, users: Sequence[User]) -> Sequence[Outcome] | None:
        """Have the destination forget these users; called after their events are erased here.

        Return None if it has, or one outcome per user: `Skipped` says why there is nothing to be done, the `note` of
        `Delivered` what could not be known. Whatever else
        is returned or raised, as in `deliver`, has it called again later, for as long as it takes. Reasons are kept in
        the receipts, without the users' ids.
        """
        return [Skipped("not supported")] * len(users)

    async def close(self) -> None:
        """Let go of everything; called after the last delivery, and after an `open` that failed."""

    async def release(self) -> None:
        """Close the connector, its HTTP session and its threads. relay calls this, and may call `open` once more after
        it; a connector overrides `close`, which is left out if a thread of the connector hangs."""
        await release(vars(self), self.close, lambda: self.log.error("connector is not closed: a thread of it hangs"))
