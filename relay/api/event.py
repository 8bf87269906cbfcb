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
"""What Braze's field transformations leave of a text: in place of an id it names nobody (Braze docs, Setting up
Currents)."""


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """What many events have in common: the source they came by, their type, and where they keep id and time: the names
    of fields at their top level. A source makes it by `self.kind("order.New", id_field="number")`."""

    source: str
    type: str
    id_field: str = "id"
    time_field: str = "time"

    @property
    def is_erased(self) -> bool:
        """Whether events of it only keep the place of ones that were erased. No source has an empty name."""
        return not self.source and self.type == ERASED.type


ERASED: Final = Kind("", "relay.erased")
"""Of what is left in the journal of an erased event, so that all others keep their offsets."""


class UnreadableEvent(Reject, ValueError):
    """What was asked of an event cannot be read out of its bytes. Raised by `Event.data` and all that is read from it.

    It is the outcome of this event. Raised out of `deliver`, it parks exactly the events that cannot be read, and all
    others of the batch are delivered."""

    def __init__(self, event: "Event", field: Literal["data", "id"], reason: str) -> None:
        super().__init__(f"{reason} (event at offset {event.offset}, type {event.type:.100})")
        self.reason = reason
        self.offset = event.offset
        self.field: Literal["data", "id"] = field
        """What of the event was asked for."""


class Event(Struct, frozen=True, eq=False):
    """One event at its position in the journal.

    `body` holds the event's own bytes. Everything read out of them (`data`, `id`, `time`, `user`, `properties`)
    is decoded at the first look, once, and shared by all who look: treat it as read-only and use
    `with_data()` to make a changed event.
    """

    body: bytes
    kind: Kind
    offset: int
    received: float
    """Unix seconds at which relay had the event on disk."""
    part: int = 0
    """Which part of the journal's event it is, from 0, behind a filter that has split that."""
    _data: dict[str, Any] | None = None

    @property
    def type(self) -> str:
        """The event type, for instance `users.messages.email.Open`."""
        return self.kind.type

    @property
    def source(self) -> str:
        """The name of the source the event came by."""
        return self.kind.source

    @property
    def data(self) -> dict[str, Any]:
        """The whole event, decoded. Raises UnreadableEvent if it cannot be: for a number such as 1e999, an unpaired
        surrogate, a thousand levels, or bytes that are no JSON object."""
        data = self._data
        if data is None:
            data = _decoded(self)
            force_setattr(self, "_data", data)
        return data

    @property
    def id(self) -> str:
        """The sender's id of the event, unique per event; the idempotency key towards destinations. Raises
        UnreadableEvent if there is none: a filter may have removed it."""
        try:
            return str(self.data[self.kind.id_field])
        except KeyError:
            raise UnreadableEvent(self, "id", f"the event has no {self.kind.id_field}") from None

    @property
    def time(self) -> float | None:
        """When it happened, in Unix seconds; None if the event does not say. Milliseconds and ISO 8601 are read too."""
        return _seconds(self.data.get(self.kind.time_field))

    @property
    def user(self) -> Mapping[str, Any]:
        """The object under `user`; empty if there is none."""
        user = self.data.get("user")
        return user if isinstance(user, dict) else {}

    @property
    def properties(self) -> Mapping[str, Any]:
        """The object under `properties`; empty if there is none."""
        properties = self.data.get("properties")
        return properties if isinstance(properties, dict) else {}

    def with_data(self, data: Mapping[str, Any]) -> "Event":
        """Return this event with other content: same position and kind, new bytes."""
        return self.with_body(orjson.dumps(data))

    def with_body(self, body: bytes) -> "Event":
        """The same for content that is a JSON object already."""
        return Event(body, self.kind, self.offset, self.received, self.part)

    def with_type(self, type: str) -> "Event":
        """Return this event with another type, for the filters and the connector behind this one. Its bytes stay: what
        they say of a type is changed by `with_data`."""
        kind = _kind(self.kind.source, type, self.kind.id_field, self.kind.time_field)
        return Event(self.body, kind, self.offset, self.received, self.part, self._data)


@lru_cache(1000)
def _kind(source: str, type: str, id_field: str, time_field: str) -> Kind:
    """One object for each: events of the same kind are grouped by it."""
    return Kind(source, type, id_field, time_field)


def _decoded(event: Event) -> dict[str, Any]:
    try:
        data = orjson.loads(event.body)
    except (ValueError, RecursionError) as error:
        raise UnreadableEvent(event, "data", f"the event cannot be decoded: {error}") from None
    if not isinstance(data, dict):
        raise UnreadableEvent(event, "data", "the event is no JSON object")
    return data


def _seconds(value: object) -> float | None:
    if isinstance(value, str):
        try:
            return parse_time(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value / 1000 if value >= 1e11 else float(value)  # 1e11 s would be the year 5138: so it is milliseconds
