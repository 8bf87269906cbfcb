"""The base of every connector: one class, one settings model, one method that matters.

Batching, selection, filters, retries, rate limits, parking and the cursor are the lane's; a connector only delivers.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from inspect import iscoroutinefunction
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    Self,
    TypedDict,
    TypeVar,
    TypeVarTuple,
    Unpack,
)

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from relay.api.batch import Batch
from relay.api.event import Event
from relay.api.json_parts import value_in
from relay.api.outcome import Outcome, Skipped
from relay.api.plugin import Plugin, PluginMetrics
from relay.api.settings import ByteSize, Contradiction, Duration, EventSelection, Rate, Settings, StartAt
from relay.api.store import AdminTable, KeyValueStore
from relay.api.threads import LeftBehind, Threads, release
from relay.api.transport.answer import Answered, check
from relay.api.user import User

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def _check_status(text: str) -> str:
    if not re.fullmatch(r"[1-5]\d\d", text):
        raise ValueError(f"expected an HTTP status of three digits, such as 409, got {text!r}")
    return text


def _check_order(path: str) -> str:
    if path and not all(path.split(".")):
        raise ValueError(f'expected a dotted path such as "user.user_id", got {path!r}')
    return path


def _make_tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


Status = Annotated[str, AfterValidator(_check_status), WithJsonSchema({"type": "string", "pattern": r"^[1-5]\d\d$"})]

Group = Literal["type", "source", "hour"]
"""What the events of a group have in common; `hour` is that in which relay received them, in UTC."""


class BatchSettings(Settings):
    """Settings of `batch`: a batch ends at `events` events, at `size` bytes, or after `age` seconds."""

    events: int = Field(default=1000, ge=1, le=100_000)
    """Maximum number of events in a batch."""
    size: ByteSize = Field(default=1 << 20, ge=1)
    """Maximum size of a batch."""
    age: Duration = Field(default=0.003, le=3600)
    """Time that the first event of a batch waits for more events. With `align`, the default is `align`.

    An `age` up to 10 ms counts from the end of the batch before: after a pause, an event does not wait.
    """
    align: Duration = Field(default=0.0, ge=0, le=3600)
    """Ends a batch where the time of receipt passes a multiple of `align`, in UTC: `"5m"` ends batches at 12:00, 12:05
    and so on. 0: no multiple ends a batch.

    The batch ends even if no event comes afterwards. `events` and `size` may end a batch earlier: raise both. `age`
    must not be shorter than `align`. A connector with `order_by`, or of a type that keeps an order, cannot have
    `align`.
    """
    group_by: Annotated[
        tuple[Group, ...], BeforeValidator(_make_tuple, json_schema_input_type=Group | list[Group])
    ] = ()
    """What all events of a batch have in common: `"type"`, `"source"`, `"hour"` (UTC, of receipt), or a list of these.

    relay divides a full batch into its groups, and sends each group by itself. `events` and `size` limit all groups
    together. The position moves once all groups are delivered. A connector with `order_by`, or of a type that keeps
    an order, cannot have `group_by`.
    """

    @model_validator(mode="after")
    def _align_age(self) -> Self:
        if self.align > self.age and "age" not in self.model_fields_set:
            vars(self)["age"] = self.align
        return self

    def contradictions(self) -> Iterator[Contradiction]:
        """Yield an `age` that is shorter than `align`."""
        if self.align > self.age and "age" in self.model_fields_set:
            yield "age align", f"age ({self.age:g}s) must be at least align ({self.align:g}s), or be left out"


class RetrySettings(Settings):
    """Settings of `retry`.

    Before attempt n + 1 relay waits a random time up to min(`max`, `first` * 2^(n-1)).
    """

    first: Duration = Field(default=1.0, gt=0)
    """Longest wait before the second attempt. The longest wait doubles with each further attempt."""
    max: Duration = Field(default=300.0, gt=0)
    """Longest wait between two attempts, at least `first`."""
    give_up_after: Duration = Field(default=0.0, ge=0)
    """Time after which relay parks an event that could not be delivered. 0: relay tries for ever.

    If a batch fails as a whole, relay parks only events that also fail alone. The time in which the destination does
    not accept relay at all (`unauthorized`) does not count.
    """

    def contradictions(self) -> Iterator[Contradiction]:
        """Yield a `first` wait that is longer than `max`."""
        if self.first > self.max:
            yield "first max", f"first ({self.first:g}s) must be at most max ({self.max:g}s)"


class ConnectorSettings(Settings):
    """Settings of every connector. A connector type adds its own."""

    type: str
    """Type of the connector: a type below, or the type of a plugin."""
    enabled: bool = True
    """Whether the connector runs. A connector that is switched off keeps its position. The journal keeps its pending
    events for `journal.retention` only, and removes them sooner if it needs room.

    A connector that is switched on again continues at its position. Events that have left the journal count as expired.
    The same is true of a connector that is removed or renamed, and comes back under its name.
    """
    from_: StartAt = Field(default="now", alias="from")
    """Where the connector begins when it runs for the first time: `"now"`, `"oldest"` (of the journal), or a time such
    as `"2026-11-01T00:00Z"`. With a time, the connector gets all events received since then."""
    events: EventSelection = ("*",)
    """Which events the connector gets: groups, channels, event types or globs. A leading `!` excludes.

    relay selects an event if an entry matches the event and no `!` entry does. A list of `!` entries alone starts from
    everything. `*` does not select `cohort.Change`: name this type to select it.
    """
    filters: tuple[str, ...] = ()
    """Names of `[filter.NAME]` tables, in the order in which relay applies them."""
    batch: BatchSettings = BatchSettings.model_construct()  # needs no validator, which takes 10 ms at each start
    """When a batch is full: at `events` events, at `size` bytes, or `age` after its first event."""
    retry: RetrySettings = RetrySettings.model_construct()
    """Random waits between attempts. The longest wait doubles up to `max`.

    relay obeys a Retry-After of the destination, up to an hour.
    """
    timeout: Duration = Field(default=30.0, gt=0, le=3600)
    """Maximum time of a delivery. After that the delivery has failed, and relay tries again."""
    open_timeout: Duration = Field(default=30.0, gt=0, le=3600)
    """Maximum time until the connector is ready, at the start and after a change. After that relay tries again."""
    concurrency: int = Field(default=4, ge=1, le=256)
    """Maximum number of batches under way at a time. relay adapts the actual number to the speed and success of the
    destination's answers."""
    window: int = Field(default=10_000, ge=1)
    """Maximum number of events that relay may send again after a crash. A larger batch goes out alone."""
    memory: ByteSize = Field(default=16 << 20, ge=1)
    """Memory for events that are under way, or that wait for an earlier event of their key. relay always allows
    `concurrency` batches."""
    answers: dict[Status, Literal["deliver", "retry", "reject", "pause"]] = Field(default_factory=dict)
    """What an HTTP status of the destination means, where the usual meaning is wrong: `{ 409 = "retry", 404 = "reject"
    }`.

    `"deliver"`: the events are delivered. `"retry"`: relay tries again. `"reject"`: relay parks the events that the
    destination refuses. `"pause"`: the connector is `unauthorized`, and waits until the destination accepts relay.
    `answers` applies to `heap`, `http` and `segment`, and to plugins that use `self.post` or `self.check`.
    """
    order_by: Annotated[str, AfterValidator(_check_order)] = ""
    """A field such as `"user.user_id"`: events with the same value are delivered in order, through all retries. Empty:
    no order.

    relay reads the field after the filters. Events of other values continue, up to `window` events and `memory` beyond
    the first event that waits.
    """
    after_parked: Literal["deliver", "park"] = "deliver"
    """What happens to later events of the same value after a parked event, with `order_by`. `"deliver"`: relay delivers
    the later events. `"park"`: relay parks the later events too, until the parked event is replayed or dropped.

    With `"park"` the later events have the cause `order`, and a batch has one event of each value.
    """
    rate: Rate = Field(default=0, ge=0)
    """Maximum number of events per second. 0: no limit.

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
    """What a connector's class may say after its type: `class Lake(Connector, type="lake", batch={"age": "1m"})`."""

    batch: BatchDefaults
    retry: RetryDefaults


class Connector(Plugin):
    """A named destination. Subclass it with a type name, and write `deliver`.

    `batch` and `retry` after the type are defaults of these tables: `class Lake(Connector, type="lake", batch={"age":
    "1m"})`. A setting that an admin writes replaces its default alone.
    """

    Settings: ClassVar[type[Settings]] = ConnectorSettings
    _noun: ClassVar[str] = "connector"
    accepted_types: ClassVar[tuple[str, ...]] = ()
    """The event types that the connector can use, for `relay check`; empty: all types."""
    per_type_settings: ClassVar[tuple[str, ...]] = ()
    """The settings that are tables by event type. `relay check` warns of types in them that it does not know."""
    erasure_setting: ClassVar[str] = ""
    """The setting without which `erase` erases nobody, for `relay check`; empty: there is none."""
    tables: ClassVar[tuple[AdminTable, ...]] = ()
    """Small tables of what the store has, for the admin API."""

    def __init_subclass__(cls, type: str = "", **defaults: Unpack[ConnectorDefaults]) -> None:
        if strange := defaults.keys() - ConnectorDefaults.__annotations__.keys():
            raise TypeError(f"{cls.__name__}: only batch and retry stand after the type, not {', '.join(strange)}")
        super().__init_subclass__(type=type, **defaults)
        if type and (cls.deliver is Connector.deliver or not iscoroutinefunction(cls.deliver)):
            raise TypeError(f"connector type {type}: {cls.__name__} needs a method `async def deliver(self, batch)`")

    def __init__(self, name: str, settings: ConnectorSettings, *, folder: Path) -> None:
        self.name = name
        self.settings: Any = settings
        self.folder = folder
        """relay's state folder. Relative paths in settings start here."""
        self.notice = ""
        """A sentence for admins on something that stops no delivery. The connector sets it, and `relay status` shows
        it."""
        self.worker = 0
        """The number of the process, from 0, if relay runs several (`runtime.workers`). With a journal in PostgreSQL
        it is the number of the partition."""
        self.min_free = 0
        """The setting `journal.min_free` in bytes. A connector that fills the state folder's file system leaves more
        than this free, so that senders are not refused."""

    @cached_property
    def store(self) -> KeyValueStore:
        """Return the connector's own keys and values, which outlive relay. relay sets it before `open`."""
        raise RuntimeError("relay sets self.store before open; in a test set it to relay.testing.MemoryStore()")

    @cached_property
    def http(self) -> "aiohttp.ClientSession":
        """Return the connector's own HTTP session: pooled connections, no cookies.

        With `HttpConnectorSettings` it uses their certificates and proxy, otherwise no proxy.
        """
        from relay.api.transport.http import make_session

        return make_session(self.settings.concurrency, self.settings.timeout, self.run_blocking, self.settings)

    @cached_property
    def metrics(self) -> PluginMetrics:
        """Return the counters of the connector: `self.metrics.add("rows", 3)`."""
        return PluginMetrics()

    @cached_property
    def _threads(self) -> Threads:
        return Threads(f"connector {self.name}", self.settings.concurrency, self.work_in_threads)

    @cached_property
    def work_in_threads(self) -> LeftBehind:
        """Return the calls of `run_blocking` that still run, abandoned calls included."""
        return LeftBehind()

    async def run_blocking(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Run work that blocks in a thread of the connector, and return its result.

        Use it for files, pipes, and libraries without asyncio. Do not use `asyncio.to_thread`: all plugins share its
        threads. There are `concurrency` threads; further work waits. Work goes on in its thread when the delivery
        exceeds `timeout`. relay does not retry these events until the thread is back.
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
        """Send a request. Return a 2xx answer; raise `Retry`, `Reject` or `Unauthorized` for all others, as `check`
        does.

        Of the body at most `answer_size` bytes are read, for `answer_seconds` seconds, and for three quarters of the
        delivery's remaining time at most. `Answered.complete` says whether that is all. Ask for more if the body names
        single events.

        Network errors raise `Retry`. Reasons name the host, never the URL's query. Redirects are not followed. Headers
        that frame a request, such as Content-Length, raise ValueError: relay sets them.
        """
        from relay.api.transport.http import AnswerLimits, send

        limits = AnswerLimits(answer_size, answer_seconds)
        return await send(self.http, method, url, body, headers, self.settings.answers, limits)

    def check(self, answer: "aiohttp.ClientResponse") -> None:
        """Call `relay.api.check` with the connector's setting `answers`."""
        check(answer, answers=self.settings.answers)

    async def reach(self, url: str) -> str:
        """Connect to the host of a URL, with TLS for https, send nothing, and say what was reached. Use it in `probe`.

        Raises `Retry` with the reason, after 5 seconds at most.
        """
        from relay.api.transport.http import reach

        return await reach(url, self.run_blocking, self.settings)

    @property
    def keeps_order(self) -> bool:
        """Return whether events stay in order: `order_by` is set, or the class has its own `key`."""
        return bool(self.settings.order_by) or type(self).key is not Connector.key

    @property
    def single_worker(self) -> bool:
        """Return whether one process has to deliver all events, if relay runs several (`runtime.workers`).

        The default is True for a connector with an order or a rate. Override it for a destination that several
        processes must not write to. With a journal in PostgreSQL the partitions share the rate, and it does not count.
        """
        return self.keeps_order or bool(self.settings.rate)

    @property
    def local_path(self) -> Path | None:
        """Return a file on this machine that the connector writes; None if it writes none.

        `relay doctor` and `relay status` use it to say what to do when writing fails.
        """
        return None

    def key(self, event: Event) -> str | None:
        """Return the key of an event; None: no order. relay delivers events of one key in order.

        With `after_parked = "park"`, a batch has at most one event of each key.

        The default is the value at `order_by`. A connector that answers per event must not answer `Retry` for an event
        and deliver a later event of its key.
        """
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
        """Get ready, before the first delivery.

        It may take `open_timeout` seconds, and may be cancelled at any await. If it raises, the log has its text and
        only this connector waits: relay calls `close`, and `open` again some seconds later.
        """

    async def probe(self) -> str | None:
        """Look whether the destination can be reached; return what was found, or raise what is wrong.

        Send no events and change nothing. relay may call it before `open`. Return None if only sending would tell. An
        answer of any kind means that the destination is there.
        """
        return None

    async def deliver(self, batch: Batch) -> Sequence[Outcome] | None:
        """Hand the batch to the destination.

        Return None if all events were delivered, or one outcome per event. Raise `Retry`, `Reject` or `Unauthorized`
        for the whole batch. relay calls it for up to `concurrency` batches at a time, and may cancel it at any await.
        What it does after that does not count. Do not catch `UnreadableEvent`: it parks the events that cannot be read.
        """
        raise NotImplementedError

    async def erase(self, users: Sequence[User]) -> Sequence[Outcome] | None:
        """Erase these users at the destination, after relay has erased their events.

        Return None if all are erased, or one outcome per user. `Skipped` says why there is nothing to do; the `note` of
        `Delivered` says what could not be known. Every other result or exception, as in `deliver`, has relay call it
        again later, for as long as it takes. Receipts keep the reasons, without the users' ids.
        """
        return [Skipped("not supported")] * len(users)

    async def close(self) -> None:
        """Release everything, after the last delivery or after a failed `open`."""

    async def release(self) -> None:
        """Close the connector, its HTTP session, its threads and its store. relay calls it; override `close` instead.

        relay may call `open` again afterwards. `close` is left out while a thread of the connector hangs.
        """
        try:
            await release(
                vars(self), self.close, lambda: self.log.error("connector is not closed: a thread of it hangs")
            )
        finally:
            if "store" in vars(self):
                await self.store.close()
