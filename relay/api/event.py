"""An event: one JSON object, kept as the exact bytes that came, read only when somebody looks inside."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

import orjson
from msgspec import Struct
from msgspec.structs import force_setattr

from relay.api.outcome import Reject
from relay.api.settings import parse_time

REDACTED: Final = "[REDACTED]"
"""What Braze's field transformations leave of a text. In place of an id it names no user."""


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """What many events have in common: source, type, and the top-level fields that hold id and time.

    Make a kind with `Source.kind`: `self.kind("order.New", id_field="number")`.
    """

    source: str
    type: str
    id_field: str = "id"
    time_field: str = "time"

    @property
    def is_erased(self) -> bool:
        """Return whether events of this kind are tombstones of erased events."""
        return not self.source and self.type == ERASED.type


_make_kind: Final = lru_cache(1000)(Kind)
"""Makes a kind, or returns the same object again: events are grouped by it."""

ERASED: Final = Kind("", "relay.erased")
"""The kind of a tombstone: it stays in the journal in place of an erased event, so that offsets do not change."""


def read_time(value: object) -> float | None:
    """Return the time that a value of an event is, in Unix seconds; None if the value is no time.

    Reads seconds, milliseconds and ISO 8601, which is UTC if it does not say.
    """
    if isinstance(value, str):
        try:
            return parse_time(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value / 1000 if value >= 1e11 else float(value)  # 1e11 s would be the year 5138: so it is milliseconds


class UnreadableEvent(Reject, ValueError):
    """Report that `data`, or a value in it, cannot be read out of an event's bytes.

    It is an outcome (`Reject`) of this event. Raised out of `deliver`, it parks the events that cannot be read, and the
    others of the batch are delivered.
    """

    def __init__(self, event: "Event", field: Literal["data", "id"], reason: str) -> None:
        super().__init__(f"{reason} (event at offset {event.offset}, type {event.type:.100})")
        self.reason = reason
        self.offset = event.offset
        self.field: Literal["data", "id"] = field
        """The property that was asked for."""


class Event(Struct, frozen=True, eq=False, gc=False):
    """One event at its position in the journal.

    `body` is the event's own bytes. `data`, `id`, `time`, `user` and `properties` decode them once, at the first look.
    All readers share the decoded content: do not change it, use `with_data`.
    """

    body: bytes
    kind: Kind
    offset: int
    received: float
    """Unix seconds at which relay had the event on disk."""
    part: int = 0
    """The number of the part, from 0, if a filter has split the event of the journal."""
    _data: dict[str, Any] | None = None
    encoded: bool = False
    """Whether an encoder of JSON has written `body`, as in `with_data`. relay reads other bytes of a filter once more,
    to make sure that they are one JSON object."""

    @property
    def type(self) -> str:
        """Return the event type, such as `users.messages.email.Open`."""
        return self.kind.type

    @property
    def source(self) -> str:
        """Return the name of the source of the event."""
        return self.kind.source

    @property
    def data(self) -> dict[str, Any]:
        """Return the whole event, decoded.

        Raises UnreadableEvent: for a number such as 1e999, an unpaired surrogate, a thousand levels, or bytes that are
        no JSON object.
        """
        data = self._data
        if data is None:
            try:
                data = orjson.loads(self.body)
            except (ValueError, RecursionError) as error:
                raise UnreadableEvent(self, "data", f"the event cannot be decoded: {error}") from None
            if not isinstance(data, dict):
                raise UnreadableEvent(self, "data", "the event is no JSON object")
            force_setattr(self, "_data", data)
        return data

    @property
    def id(self) -> str:
        """Return the sender's id of the event. Use it as an idempotency key towards destinations.

        Raises UnreadableEvent if there is none: a filter may have removed it.
        """
        try:
            return str(self.data[self.kind.id_field])
        except KeyError:
            raise UnreadableEvent(self, "id", f"the event has no {self.kind.id_field}") from None

    @property
    def time(self) -> float | None:
        """Return when the event happened, in Unix seconds; None if the event does not say.

        Reads seconds, milliseconds and ISO 8601. Raises UnreadableEvent.
        """
        return read_time(self.data.get(self.kind.time_field))

    @property
    def user(self) -> Mapping[str, Any]:
        """Return the object under `user`, empty if there is none. Raises UnreadableEvent."""
        user = self.data.get("user")
        return user if isinstance(user, dict) else {}

    @property
    def properties(self) -> Mapping[str, Any]:
        """Return the object under `properties`, empty if there is none. Raises UnreadableEvent."""
        properties = self.data.get("properties")
        return properties if isinstance(properties, dict) else {}

    def with_data(self, data: Mapping[str, Any]) -> "Event":
        """Return this event with other content. Position and kind stay the same."""
        return self.with_body(orjson.dumps(data), encoded=isinstance(data, dict))

    def with_body(self, body: bytes, *, encoded: bool = False) -> "Event":
        """Return this event with other bytes, which are one JSON object in UTF-8.

        `encoded`: an encoder of JSON has written the bytes, so that relay need not read them once more.
        """
        return Event(body, self.kind, self.offset, self.received, self.part, None, encoded)

    def with_type(self, type: str) -> "Event":
        """Return this event with another type, for the next filters and the connector.

        The bytes stay the same. To change a type in them, use `with_data`.
        """
        kind = _make_kind(self.kind.source, type, self.kind.id_field, self.kind.time_field)
        return Event(self.body, kind, self.offset, self.received, self.part, self._data)
