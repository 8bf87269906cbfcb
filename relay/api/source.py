"""The base of every source: who may send (`authorize`, `verify`), and what a request means (`decode`)."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hmac import compare_digest
from typing import Annotated, Any, ClassVar, Final, NamedTuple, TypeVar

from pydantic import Field

from relay.api.event import Kind
from relay.api.json_parts import UNREADABLE, read_entry, why_unreadable
from relay.api.network import NetworkList, Networks
from relay.api.plugin import Plugin
from relay.api.request import Denied, Malformed, Request, Response
from relay.api.secret import BearerToken
from relay.api.settings import Duration, Rate, Settings, UrlPath

T = TypeVar("T")

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
    """One entry of a good body that is no event: it is parked under the source with its reason, and the others go on.

    `Unreadable(b'{"id": 7}', "entry 3 has no event_type")`"""

    body: bytes
    reason: str


class Entries(list[Any]):
    """Bodies of events each of which a decoder has read as one JSON object, and which nobody changes any more. relay
    takes them as they are; it reads all other bodies once more."""


class Kinds(dict[str, Kind]):
    """The kinds of a source's events by type, as they are asked for: KINDS_REMEMBERED at most."""

    def __init__(self, source: str, id_field: str, time_field: str) -> None:
        self._source, self._id_field, self._time_field = source, id_field, time_field

    def __missing__(self, type: str) -> Kind:
        _check_type(type)
        if len(self) >= KINDS_REMEMBERED:
            self.clear()
        kind = self[type] = Kind(self._source, type, self._id_field, self._time_field)
        return kind


class Decoded(NamedTuple):  # takes half the time of a frozen dataclass, and each request makes one
    """The events of one body. Whatever is not as it is said here is the plugin's bug: the answer is 500, and nothing is
    kept.

    `Decoded([self.kind("order.New")], [b'{"id": "7", "total": 12}'], ids=["7"])`"""

    kinds: Sequence[Kind]
    """One for each event: what `self.kind(type)` gives."""
    bodies: Sequence[Any]
    """Each event's own bytes: one JSON object, which has the event's id."""
    unreadable: Sequence[Unreadable] = ()
    ids: Sequence[str] | None = None
    """Of the events, in their order, none of them empty. Without them no duplicate can be told (`dedupe`). What the
    events' bodies say is the same: they are what connectors send as idempotency keys."""
    subject: str | None = None
    """What all events of the body tell the newest state of. They are duplicates only until the subject has other
    events; None: for as long as `settings.dedupe` says."""


def _check_type(type: str) -> None:
    """Raise Malformed if no event can be of this type, as it is a sender who says it; TypeError."""
    if not isinstance(type, str):
        raise TypeError("an event type is a text")
    if not 0 < len(type) <= TYPE_CHARS:
        raise Malformed(f"the event type has {len(type)} characters: it may have 1 to {TYPE_CHARS}")
    try:
        type.encode()
    except UnicodeEncodeError:
        raise Malformed("the event type has half a character (an unpaired surrogate)") from None


class SourceSettings(Settings):
    """Settings of every source; a source type adds its own."""

    type: str
    """Type of the source: a type below, or the type of a plugin."""
    enabled: bool = True
    """Whether relay takes requests for the source."""
    path: UrlPath
    """Path of the URL to which the sender posts, such as `"/currents"`. Each source has its own path."""
    tokens: tuple[BearerToken, ...] = ()
    """Bearer tokens of the sender, as references to secrets: `[{ credential = "braze-token" }]`. Without tokens
    everybody who reaches relay may send.

    relay accepts each token of the list. To change a token, add the new token, change it at the sender, and remove the
    old token.
    """
    dedupe: Duration = Field(default=0.0, ge=0, le=WEEK_S)
    """How long relay remembers an event by its id. An event that comes again within that time is left out and answered
    2xx. 0: relay remembers no events."""
    allow: NetworkList = Networks()
    """Networks from which requests are taken, such as `["203.0.113.0/24"]`, or `"unix"` for unix sockets. Other
    requests get 403. Empty: requests are taken from everywhere.

    Braze takes a 403 for bad credentials, and stops sending. List all addresses that Braze publishes for your cluster.
    """
    rate: Rate = Field(default=0, ge=0)
    """Most events per second. Beyond it senders get 429 with Retry-After, and send again later. 0: no limit.

    A request with more events than a second allows is taken too. The requests after it wait longer.
    """

    @property
    def is_open(self) -> bool:
        """Whether everybody who reaches relay may send: a type that knows its senders in another way overrides it."""
        return not self.tokens


class Source(Plugin):
    """A named HTTP intake with its own path and credentials."""

    Settings: ClassVar[type[Settings]] = SourceSettings
    _noun: ClassVar[str] = "source"
    accepted_status: ClassVar[Annotated[int, Field(ge=200, le=299)]] = 202
    """The status that says to this sender that its events are kept."""
    disabled_after: ClassVar[float | None] = None
    """Seconds of nothing but refusals after which the sender stops for good; None: not known."""
    known_by: ClassVar[str] = "tokens"
    """The setting by which it knows its senders, for `relay check` to ask for."""
    methods: ClassVar[tuple[str, ...]] = ("POST",)
    """HTTP methods that it takes, 405 for all others. `respond` answers those that are not POST."""
    makes: ClassVar[tuple[str, ...]] = ()
    """Event types that it makes itself; those that senders say need not be known."""
    catalogued: ClassVar[bool] = False
    """Whether its event types are Braze's, so that one that is not in the catalogue is worth a word."""
    watches: ClassVar[bool] = False
    """Whether `kept` is to be called. With several workers all its events are then kept by the first one."""

    def __init__(self, name: str, settings: SourceSettings) -> None:
        self.name = name
        self.settings: Any = settings
        self._tokens = [b"Bearer " + token.reveal().encode() for token in settings.tokens]
        self._kinds: dict[tuple[str, str], Kinds] = {}

    def authorize(self, request: Request) -> None:
        """Raise `Denied` unless the request carries one of the source's bearer tokens (RFC 6750). Called before the
        body is read, for POST alone."""
        if not self._tokens:
            return
        given = request.headers.get("Authorization", "")
        if self._knows(given):  # as it nearly always is written
            return
        scheme, _, token = given.partition(" ")
        if scheme.lower() != "bearer" or not self._knows(f"Bearer {token.strip()}"):
            raise Denied("wrong bearer token" if given else "a bearer token is required")

    def _knows(self, given: str) -> bool:
        """Whether it is the header of one of the tokens."""
        offered = given.encode("utf-8", "surrogateescape")
        matches = [compare_digest(offered, known) for known in self._tokens]  # all of them: no early exit
        return any(matches)

    def verify(self, request: Request) -> None:
        """Raise `Denied` unless a signature fits the body (see `check_hmac`), or `Malformed`; nothing is signed by
        default. Return nothing: whatever is returned is a bug, so that no False lets a forged request pass."""

    def respond(self, request: Request) -> Response | None:
        """Answer a request that brings no events, such as the challenge by which a sender tries its webhook; None: it
        brings events. Called after `verify`, and for all `methods` but POST, of which nothing is verified: what such a
        request says to prove itself is for this method to compare. Raises `Denied`, `Malformed`."""

    def decode(self, request: Request) -> Decoded:
        """Split a request into events. Raises `Malformed`. Must be quick and change nothing of the source: as `verify`
        and `respond` it runs on the event loop or, for a body of more than 256 KiB, in a thread."""
        raise NotImplementedError

    @property
    def notice(self) -> str:
        """What an admin should know, in a sentence for `relay status`; empty: nothing."""
        return ""

    @property
    def incomplete(self) -> int:
        """How many things that come in several requests are known to lack one. More than 0 needs a look."""
        return 0

    def kept(self, bodies: Sequence[Any]) -> None:
        """Events of this source are on disk, none of them a duplicate. On the event loop, before the answer."""

    def look_after(self) -> None:
        """Say what is overdue, in the log. Called once a minute on the event loop."""

    def remember(self) -> str:
        """What is to outlast a restart, as a short text; saved after `kept` and from time to time."""
        return ""

    def recall(self, memory: str) -> None:
        """Go on with what was remembered. Any exception means that it cannot be read, and is told in the log."""

    def kinds(self, id_field: str = "id", time_field: str = "time") -> Kinds:
        """The kinds of this source's events by type, for many of them at once: `kinds[type]`. The names are those of
        fields at the top level of each event."""
        if (kinds := self._kinds.get((id_field, time_field))) is None:
            if len(self._kinds) >= FIELDS_REMEMBERED:
                self._kinds.clear()
            kinds = self._kinds[id_field, time_field] = Kinds(self.name, id_field, time_field)
        return kinds

    def kind(self, type: str, id_field: str = "id", time_field: str = "time") -> Kind:
        """The kind of this source's events of that type; one object per type, so use it rather than `Kind(...)`. Raises
        `Malformed` for what is no type: it has 1 to 256 characters."""
        return self.kinds(id_field, time_field)[type]


def read_entries(
    entries: Iterable[tuple[int, Any]], decode: Callable[[Any], T], entry: str, event: str
) -> tuple[list[T], Entries, list[Unreadable]]:
    """What `decode`, a msgspec decoder of a struct, reads of each entry, the entries that it can read, and the others
    with their reasons.

    `entries` come with their numbers and may raise ValueError where the body is no JSON; `entry` and `event` are the
    words for them. Raises `Malformed`, also if too many entries are unreadable."""
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
