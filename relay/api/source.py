"""The base of every source: who may send (`authorize`, `verify`), and what a request means (`decode`)."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Annotated, Any, ClassVar, Final, NamedTuple, TypeVar

from pydantic import Field

from relay.api.authentication import check_bearer
from relay.api.event import Kind
from relay.api.json_parts import UNREADABLE, read_entry, why_unreadable
from relay.api.plugin import Plugin
from relay.api.request import Malformed, Request, Response
from relay.api.secret import BearerToken
from relay.api.settings import Duration, Rate, Settings, UrlPath
from relay.api.transport.addresses import NetworkList, Networks

T = TypeVar("T")

CALLED: Final = ("authorize", "verify", "respond", "decode", "kept", "look_after", "remember", "recall")
"""The methods of a source that relay calls and does not await."""
WEEK_S: Final = 7 * 86400.0
UNREADABLE_AT_MOST: Final = 1000
"""Entries of one body that are parked one by one; a body with more of them is refused as a whole."""
TYPE_CHARS: Final = 256
FIELDS_REMEMBERED: Final = 16
"""Pairs of names of fields for which a source keeps kinds."""
KINDS_REMEMBERED: Final = 4096
"""Distinct event types a source keeps in memory; a sender that invents types for ever costs no more than this."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """One entry of a good body that is no event. relay parks it under the source, and takes the others.

    `Unreadable(b'{"id": 7}', "entry 3 has no event_type")`
    """

    body: bytes
    reason: str


class Entries(list[Any]):
    """Bodies that a decoder has read as one JSON object each. relay takes them as they are, and reads other bodies
    again.

    Do not change them afterwards.
    """


class Kinds(dict[str, Kind]):
    """The kinds of a source's events by type, as they are asked for: KINDS_REMEMBERED at most."""

    def __init__(self, source: str, id_field: str, time_field: str) -> None:
        self._source, self._id_field, self._time_field = source, id_field, time_field

    def __missing__(self, type: str) -> Kind:
        # A sender named the type: refuse a type that no event can have
        if not isinstance(type, str):
            raise TypeError("an event type is a text")
        if not 0 < len(type) <= TYPE_CHARS:
            raise Malformed(f"the event type has {len(type)} characters: it may have 1 to {TYPE_CHARS}")
        try:
            type.encode()
        except UnicodeEncodeError:
            raise Malformed("the event type has half a character (an unpaired surrogate)") from None
        if len(self) >= KINDS_REMEMBERED:
            self.clear()
        kind = self[type] = Kind(self._source, type, self._id_field, self._time_field)
        return kind


class Decoded(NamedTuple):  # takes half the time of a frozen dataclass, and each request makes one
    """The events of one body. If it breaks these rules, that is the plugin's bug: the answer is 500, and nothing is
    kept.

    `Decoded([self.kind("order.New")], [b'{"id": "7", "total": 12}'], ids=["7"])`
    """

    kinds: Sequence[Kind]
    """For each event its kind: `self.kind(type)`."""
    bodies: Sequence[Any]
    """For each event its bytes: one JSON object that holds the event's id."""
    unreadable: Sequence[Unreadable] = ()
    ids: Sequence[str] | None = None
    """For each event its id, never empty. Without ids `dedupe` cannot find duplicates. Use the ids of the bodies:
    connectors send those as idempotency keys."""
    subject: str | None = None
    """The thing, such as a segment, whose newest state the body describes. The events are duplicates only until other
    events of the same subject come. None: for as long as `dedupe` says."""


class SourceSettings(Settings):
    """Settings of every source. A source type adds its own."""

    type: str
    """Type of the source: a type below, or the type of a plugin."""
    enabled: bool = True
    """Whether relay takes requests for the source. Requests to a source that is switched off get 404."""
    path: UrlPath
    """Path of the URL to which the sender posts, such as `"/currents"`. Each source has its own path."""
    tokens: tuple[BearerToken, ...] = ()
    """Bearer tokens of the sender, as references to secrets: `[{ credential = "braze-token" }]`. Without tokens
    everybody who reaches relay may send.

    relay accepts each token of the list. To change a token, add the new token, change it at the sender, and remove the
    old token.
    """
    dedupe: Duration = Field(default=0.0, ge=0, le=WEEK_S)
    """Time for which relay remembers an event by its id. relay leaves out an event that comes again within this time,
    and answers 2xx. 0: relay remembers no events."""
    allow: NetworkList = Networks()
    """Networks from which requests are taken, such as `["203.0.113.0/24"]`, or `"unix"` for unix sockets. Other
    requests get 403. Empty: requests are taken from everywhere.

    Braze takes a 403 for bad credentials, and stops sending. List all addresses that Braze publishes for your cluster.
    """
    rate: Rate = Field(default=0, ge=0)
    """Maximum number of events per second. Above it senders get 429 with Retry-After, and send again later. 0: no
    limit.

    A request with more events than a second allows is taken too. The requests after it wait longer.
    """

    @property
    def is_open(self) -> bool:
        """Return whether everybody who reaches relay may send. Override it in a type that checks senders in another
        way."""
        return not self.tokens


class Source(Plugin):
    """A named HTTP intake with its own path and credentials. Subclass it with a type name, and write `decode`."""

    Settings: ClassVar[type[Settings]] = SourceSettings
    _noun: ClassVar[str] = "source"
    accepted_status: ClassVar[Annotated[int, Field(ge=200, le=299)]] = 202
    """The status of an answer that says that all events are kept."""
    disabled_after: ClassVar[float | None] = None
    """Seconds of refusals after which the sender stops for good. None: not known."""
    auth_setting: ClassVar[str] = "tokens"
    """The setting by which the source knows its senders. `relay check` asks for it."""
    methods: ClassVar[tuple[str, ...]] = ("POST",)
    """The HTTP methods that the source takes; all others get 405. `respond` answers those that are not POST."""
    emitted_types: ClassVar[tuple[str, ...]] = ()
    """Event types that the source makes itself. Types that senders name are not listed."""
    catalogued: ClassVar[bool] = False
    """Whether the event types are Braze's, so that relay warns of a type that is not in the catalogue."""
    watches: ClassVar[bool] = False
    """Whether relay calls `kept`. With several workers the first worker then keeps all events of the source. With a
    journal in PostgreSQL they are in partition 0, and the process that runs partition 0 calls `kept`."""

    def __init_subclass__(cls, type: str = "", **options: Any) -> None:
        super().__init_subclass__(type=type, **options)
        if type and cls.decode is Source.decode:
            raise TypeError(f"source type {type}: {cls.__name__} needs a method `def decode(self, request)`")
        for name in CALLED:
            if iscoroutinefunction(getattr(cls, name)):
                raise TypeError(f"source type {type}: {cls.__name__}.{name} has to be a plain function, not async")

    def __init__(self, name: str, settings: SourceSettings) -> None:
        self.name = name
        self.settings: Any = settings
        self._tokens = [b"Bearer " + token.reveal().encode() for token in settings.tokens]
        self._kinds: dict[tuple[str, str], Kinds] = {}

    def authorize(self, request: Request) -> None:
        """Raise `Denied` unless the request has one of the source's bearer tokens (RFC 6750).

        relay calls it before it reads the body, for POST alone.
        """
        if self._tokens:
            check_bearer(request.headers.get("Authorization", ""), self._tokens)

    def verify(self, request: Request) -> None:
        """Raise `Denied` if the signature is wrong, `Malformed` if its header cannot be read.

        By default nothing is signed. Use `check_hmac`. Return nothing: relay treats every other result as a bug, so
        that no False lets a forged request pass.
        """

    def respond(self, request: Request) -> Response | None:
        """Answer a request that brings no events, such as a challenge; return None if it brings events.

        For POST, relay calls it after `verify`. For other `methods` relay verifies nothing: check their credentials
        here. Raises `Denied`, `Malformed`.
        """

    def decode(self, request: Request) -> Decoded:
        """Split a request into events. Raises `Malformed`.

        Be quick, and change nothing in the source. Like `verify` and `respond`, it runs on the event loop or, for a
        body over 256 KiB, in a thread.
        """
        raise NotImplementedError

    @property
    def notice(self) -> str:
        """Return a sentence for `relay status` on what an admin should know; empty: nothing."""
        return ""

    @property
    def incomplete(self) -> int:
        """Return the number of things in several requests, such as syncs in pages, that lack a request."""
        return 0

    def kept(self, bodies: Sequence[Any]) -> None:
        """Take note of events that are on disk and are no duplicates. relay calls it on the event loop, before the
        answer. With a journal in PostgreSQL relay calls it after the answer, and after a crash again for some events.
        """

    def look_after(self) -> None:
        """Log what is overdue. relay calls it once a minute on the event loop."""

    def remember(self) -> str:
        """Return a short text that outlasts a restart. relay saves it after `kept`, and from time to time."""
        return ""

    def recall(self, memory: str) -> None:
        """Go on with a text of `remember`. If it raises, the log says so, and the source begins without it."""

    def kinds(self, id_field: str = "id", time_field: str = "time") -> Kinds:
        """Return the kinds of the source's events by type: `kinds[type]`. Use it for many events at once.

        `id_field` and `time_field` name fields at the top level of each event.
        """
        if (kinds := self._kinds.get((id_field, time_field))) is None:
            if len(self._kinds) >= FIELDS_REMEMBERED:
                self._kinds.clear()
            kinds = self._kinds[id_field, time_field] = Kinds(self.name, id_field, time_field)
        return kinds

    def kind(self, type: str, id_field: str = "id", time_field: str = "time") -> Kind:
        """Return the kind of events of a type. It is one object per type: use it rather than `Kind(...)`.

        Raises `Malformed` if the type has not 1 to 256 characters.
        """
        return self.kinds(id_field, time_field)[type]


def read_entries(
    entries: Iterable[tuple[int, Any]], decode: Callable[[Any], T], entry: str, event: str
) -> tuple[list[T], Entries, list[Unreadable]]:
    """Read each entry with `decode`, a msgspec decoder of a struct. Return what it reads, the good entries, and the
    unreadable ones.

    `entries` come with their numbers, and may raise ValueError where the body is no JSON. `entry` and `event` are the
    words of the reasons. Raises `Malformed`, also for more than 1,000 unreadable entries.
    """
    heads, bodies, unreadable = [], Entries(), []
    try:
        for number, one in entries:
            try:
                heads.append(read_entry(one, decode))
                bodies.append(one)
            except UNREADABLE as error:
                reason = f"{entry} {number} is no {event}: {why_unreadable(error)}"
                unreadable.append(Unreadable(bytes(one), reason))
                if len(unreadable) > UNREADABLE_AT_MOST:
                    first = unreadable[0].reason
                    raise Malformed(f"more than {UNREADABLE_AT_MOST} entries are unreadable; {first}") from None
    except ValueError as error:
        raise Malformed(f"the body is not JSON: {error}") from None
    return heads, bodies, unreadable
