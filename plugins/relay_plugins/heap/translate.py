"""Translates Braze events to Heap's server-side API: names, identities, flat properties. Pure."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import orjson

from relay.api import REDACTED, Event, Reject
from relay_plugins.braze_events import read_profile, split_type
from relay_plugins.heap.plain_event import MOST_CHARACTERS, PlainEvent

MOST_OF_IDENTITY: Final = 255
DEEPEST: Final = 16
"""Deepest object within objects that becomes flat. Deeper objects become JSON."""
NAMES_REMEMBERED: Final = 4096
"""Names of event types and of properties in memory. Senders can invent any number of names."""
TIMES_REMEMBERED: Final = 1024
"""Times in memory. Many events in a row have the same time."""
EMAIL: Final = "email"
OWN_NAME: Final = re.compile("id_*", re.IGNORECASE)
"""`id` is Heap's own, in any case (Heap docs, Add User Properties)."""

Scalar = str | int | float
Flat = dict[str, Scalar]


class HeapProfile(NamedTuple):
    """The properties in an update of a user."""

    properties: Flat
    removed: frozenset[str]
    """Custom attributes that are null now. Heap cannot remove a property, so relay leaves out earlier values."""

    def apply_to(self, older: Flat) -> Flat:
        """Return older properties with this update applied."""
        within = tuple(f"{name}." for name in self.removed)
        return {k: v for k, v in older.items() if k not in self.removed and not k.startswith(within)} | self.properties


_usual: Final = set[str]()
"""Names of properties that are the same in Heap."""


@lru_cache(NAMES_REMEMBERED)
def make_readable(event_type: str) -> str:
    """Return an event type in words: `users.messages.email.Send` is "Email Send"."""
    return " ".join(split_type(event_type))[:MOST_CHARACTERS]


def find_own_name(properties: Mapping[str, Any], event_type: str) -> str:
    """Return the event's own name, such as a custom event has; without a name its readable type."""
    name = properties.get("name")
    return name if isinstance(name, str) and name else make_readable(event_type)


def find_identity(user: Mapping[str, Any], field: str) -> str | None:
    """Return the identity in a field of `user`; None if the event has none, or Braze has redacted it. Raises Reject if
    Heap does not accept the identity."""
    found = user.get(field)
    if found is None or found in ("", REDACTED):
        return None
    if type(found) not in (str, int):  # quicker than isinstance, and a boolean is no integer here
        raise Reject(f"user.{field} is neither text nor an integer")
    if len(identity := str(found)) > MOST_OF_IDENTITY:
        raise Reject(f"user.{field} has {len(identity)} characters; an identity has at most {MOST_OF_IDENTITY} in Heap")
    return identity


def make_entry(event: Event | PlainEvent, identity: str, name: str, prefix: str) -> dict[str, Any]:
    """Return an entry of bulk track. A property of the event wins over a field of `user`. (Heap docs, Bulk Track.)"""
    entry = {
        "identity": identity,
        "event": (prefix + name)[:MOST_CHARACTERS],
        "idempotency_key": event.id,
        "properties": _make_properties(event, prefix),
    }
    if (time := event.time) is not None:
        entry["timestamp"] = _format_time(time)
    return entry


def _make_properties(event: Event | PlainEvent, prefix: str) -> Flat:
    """Return the properties of an event and the fields of `user`, flat."""
    if prefix or not isinstance(event, PlainEvent):
        return flatten(event.properties, prefix, event.user)
    found = event.properties
    for name, value in event.user.items():
        found.setdefault(name, value)
    if not _usual.issuperset(found):
        return flatten(found)
    for name, value in found.items():
        if value is True:
            found[name] = "true"
        elif value is False:
            found[name] = "false"
    return found


@lru_cache(TIMES_REMEMBERED)
def _format_time(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds")


def flatten(values: Mapping[str, Any], prefix: str = "", others: Mapping[str, Any] = MappingProxyType({})) -> Flat:
    """Return the values, then the values of `others`, as numbers and strings. Of two equal names the first wins.

    Objects: `{"a": {"b": 1}}` becomes `a.b`. Lists: joined by `||`. true and false: as words. null: left out. Names
    and values are cut below 1,024 characters. Heap reserves `id` in upper and lower case, so `id` becomes `id_`, and
    `id_` becomes `id__`.
    """
    found: Flat = {}
    _flatten_into(found, values, prefix, 1)
    _flatten_into(found, others, prefix, 1)
    return found


def read_change_time(event: Event) -> float:
    """Return the time of a profile's change in Unix seconds, to the millisecond if the event has `time_ms`; 0 without
    a time."""
    exact = event.properties.get("time_ms")
    return exact / 1000 if isinstance(exact, int | float) else event.time or 0.0


def make_profile(event: Event, prefix: str) -> HeapProfile:
    """Return the properties of a user: of the event, the time zone, and each custom attribute. Raises Reject if
    `custom_attributes` is no object.

    Of several properties with the same name the first wins. The e-mail address becomes `email`, which Heap knows,
    whatever the prefix. (Heap docs, Add User Properties.)
    """
    values, custom = read_profile(event)
    attributes = _rename_for_heap(custom, prefix)
    properties = flatten(_rename_for_heap(values, prefix), "", attributes)
    return HeapProfile(properties, frozenset(_find_nulls(attributes)) - properties.keys())


def _find_nulls(values: Mapping[str, Any], path: str = "", depth: int = 1) -> Iterator[str]:
    """Yield the flat names of null values."""
    for name, value in values.items():
        if value is None:
            yield _make_name(path + name)
        elif isinstance(value, dict) and depth < DEEPEST:
            yield from _find_nulls(value, f"{path}{name}.", depth + 1)


def _rename_for_heap(properties: Mapping[str, Any], prefix: str) -> Mapping[str, Any]:
    """Put the prefix before each name, but call an e-mail address `email`."""
    names = {name: EMAIL if name.lower() in (EMAIL, "email_address") else prefix + name for name in properties}
    return {names[name]: value for name, value in properties.items()}


def _flatten_into(found: Flat, values: Mapping[str, Any], path: str, depth: int) -> None:
    """Add flat values to `found`, except under names that it already has."""
    for name, value in values.items():
        if isinstance(value, dict) and depth < DEEPEST:
            _flatten_into(found, value, f"{path}{name}.", depth + 1)
            continue
        key = path + name
        if key not in _usual:
            key = _make_name(key)
        if value is not None and key not in found:
            found[key] = _make_scalar(value)


def _make_name(key: str) -> str:
    """Return the name of a property in Heap. Remember a name that does not change."""
    name = (key + "_" if OWN_NAME.fullmatch(key) else key)[:MOST_CHARACTERS]
    if name == key:
        if len(_usual) >= NAMES_REMEMBERED:
            _usual.clear()  # usual names are back at once
        _usual.add(key)
    return name


def _make_scalar(value: Any) -> Scalar:
    if isinstance(value, str):
        return value[:MOST_CHARACTERS]
    if isinstance(value, list):
        return "||".join(str(_make_scalar(entry)) for entry in value if entry is not None)[:MOST_CHARACTERS]
    if isinstance(value, bool | dict):
        return orjson.dumps(value).decode()[:MOST_CHARACTERS]
    return value  # type: ignore[no-any-return]
