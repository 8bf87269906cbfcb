"""Braze events in the form that Heap's server-side API takes: names, identities, flat properties. Pure."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import orjson

from relay.api import REDACTED, Event, Reject, Walk, without_surrogates

MOST_CHARACTERS: Final = 1023
"""Of event names, property names and values (Heap docs, Track)."""
MOST_OF_IDENTITY: Final = 255
DEEPEST: Final = 16
"""Objects within objects; what is deeper goes as JSON."""
NAMES_REMEMBERED: Final = 4096
"""Of event types and of properties: senders can make up any number."""
TIMES_REMEMBERED: Final = 1024
"""Events of one second come together."""
EMAIL: Final = "email"
CUSTOM_EVENT: Final = "users.behaviors.CustomEvent"
ATTRIBUTES: Final = "custom_attributes"
FACTS_OF_UPDATE: Final = frozenset({"time_ms", "update_source", "archived", "app_group_id", "app_id"})
"""Of `users.profile.Update`: they tell of the event and not of the user."""
OWN_NAME: Final = re.compile("id_*", re.IGNORECASE)
"""`id` is Heap's own, in any case (Heap docs, Add User Properties)."""
WORDS: Final = {
    "agentconsole": "Agent Console",
    "campaigns": "Campaign",
    "canvasstep": "Canvas Step",
    "contentcard": "Content Card",
    "contentoptimizer": "Content Optimizer",
    "experimentstep": "Experiment Step",
    "featureflag": "Feature Flag",
    "inappmessage": "In-App Message",
    "landingpage": "Landing Page",
    "line": "LINE",
    "liveactivity": "Live Activity",
    "newsfeedcard": "News Feed Card",
    "pushnotification": "Push Notification",
    "rcs": "RCS",
    "sms": "SMS",
    "subscriptiongroup": "Subscription Group",
    "whatsapp": "WhatsApp",
}
"""Parts of an event type that do not show where a word ends."""

Scalar = str | int | float
Flat = dict[str, Scalar]


class HeapProfile(NamedTuple):
    """What an update tells of a user."""

    properties: Flat
    removed: frozenset[str]
    """Custom attributes that are null now. Heap has no way to remove a property: the value from before is not sent."""

    def over(self, older: Flat) -> Flat:
        """The properties after this update, those from before being these."""
        within = tuple(f"{name}." for name in self.removed)
        return {k: v for k, v in older.items() if k not in self.removed and not k.startswith(within)} | self.properties


_usual: Final = set[str]()
"""Names of properties that are in Heap what they are here."""


@lru_cache(NAMES_REMEMBERED)
def readable(event_type: str) -> str:
    """An event type as people say it: `users.messages.email.Send` is "Email Send"."""
    parts = re.sub(r"^users\.(messages\.|behaviors\.)?", "", event_type).split(".")
    words = (WORDS.get(part) or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", part) for part in parts)
    return " ".join(word[:1].upper() + word[1:] for word in words if word)[:MOST_CHARACTERS]


def own_name(event: Event) -> str:
    """The name that the sender gave an event, as custom events have one, else what its type is called."""
    name = event.properties.get("name")
    return name if isinstance(name, str) and name else readable(event.type)


def identity_of(user: Mapping[str, Any], field: str) -> str | None:
    """The identity under a field of `user`; None if the event has none, or Braze has redacted it. Raises Reject if Heap
    takes none such."""
    found = user.get(field)
    if found is None or found in ("", REDACTED):
        return None
    if not isinstance(found, str | int) or isinstance(found, bool):
        raise Reject(f"user.{field} is neither text nor an integer")
    if len(identity := str(found)) > MOST_OF_IDENTITY:
        raise Reject(f"user.{field} has {len(identity)} characters; an identity has at most {MOST_OF_IDENTITY} in Heap")
    return identity


def track(event: Event, user: Mapping[str, Any], identity: str, name: str, prefix: str) -> dict[str, Any]:
    """An entry of bulk track. A property of the event wins over a field of `user`. (Heap docs, Bulk Track.)"""
    entry = {
        "identity": identity,
        "event": (prefix + name)[:MOST_CHARACTERS],
        "idempotency_key": event.id,
        "properties": flat(event.properties, prefix, user),
    }
    if (time := event.time) is not None:
        entry["timestamp"] = _written(time)
    return entry


@lru_cache(TIMES_REMEMBERED)
def _written(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds")


def flat(values: Mapping[str, Any], prefix: str = "", others: Mapping[str, Any] = MappingProxyType({})) -> Flat:
    """The values, then those of `others`, as Heap takes them: numbers and strings, of two equal names the first.

    Objects: `{"a": {"b": 1}}` becomes `a.b`; lists: joined by `||`; true and false: as words; null: left out. Names
    and values are cut below 1,024 characters. `id`, which Heap keeps for itself in upper and lower case, becomes `id_`,
    and so that it can be told from one that was called that, `id_` becomes `id__`.
    """
    plain = {**others, **values}
    if not prefix and _usual.issuperset(plain) and _mended(plain):
        return plain
    found: Flat = {}
    _flatten(values, prefix, 1, found)
    _flatten(others, prefix, 1, found)
    return found


def moment(event: Event) -> float:
    """When a profile was changed, in Unix seconds: to the millisecond if the event says so; 0 if it says nothing."""
    exact = event.properties.get("time_ms")
    return exact / 1000 if isinstance(exact, int | float) else event.time or 0.0


def profile(event: Event, prefix: str) -> HeapProfile:
    """The properties of a user: those of the event, the time zone, and each custom attribute. Raises Reject if
    `custom_attributes` is no object.

    Of several with one name the first of these wins. The e-mail address becomes `email`, which Heap knows, whatever the
    prefix. (Heap docs, Add User Properties.)"""
    told = {name: value for name, value in event.properties.items() if name not in FACTS_OF_UPDATE}
    attributes = _named_for_heap(_attributes(told.pop(ATTRIBUTES, None)), prefix)
    told.setdefault("timezone", event.user.get("timezone"))
    properties = flat(_named_for_heap(told, prefix), "", attributes)
    return HeapProfile(properties, frozenset(_nulls(attributes)) - properties.keys())


def _attributes(value: Any) -> Mapping[str, Any]:
    """Custom attributes by name; Braze sends them as JSON in a text. Raises Reject if that is no object."""
    if isinstance(value, str):
        value = None if value in ("", REDACTED) else _read_attributes(without_surrogates(value.encode()))
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Reject(f"properties.{ATTRIBUTES} is no JSON object")
    return value


def _read_attributes(text: bytes) -> Any:
    """What a JSON text says; of an object, without the values that are no JSON (`NaN`, `1e400`). Raises Reject."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    walk = Walk(text := text.strip())
    try:
        members = walk.object() if walk.is_one_value() else None
    except ValueError:
        members = None
    if members is None:
        raise Reject(f"properties.{ATTRIBUTES} is no JSON object")
    read: dict[str, Any] = {}
    for name, member in members.items():
        with suppress(orjson.JSONDecodeError):
            read[orjson.loads(b'"%b"' % name)] = orjson.loads(member)
    return read


def _nulls(values: Mapping[str, Any], path: str = "", depth: int = 1) -> Iterator[str]:
    """The names, flat ones, of what is null."""
    for name, value in values.items():
        if value is None:
            yield _named(path + name)
        elif isinstance(value, dict) and depth < DEEPEST:
            yield from _nulls(value, f"{path}{name}.", depth + 1)


def _named_for_heap(properties: Mapping[str, Any], prefix: str) -> Mapping[str, Any]:
    names = {name: EMAIL if name.lower() in (EMAIL, "email_address") else prefix + name for name in properties}
    return {names[name]: value for name, value in properties.items()}


def _flatten(values: Mapping[str, Any], path: str, depth: int, found: dict[str, Scalar]) -> None:
    for name, value in values.items():
        if isinstance(value, dict) and depth < DEEPEST:
            _flatten(value, f"{path}{name}.", depth + 1, found)
            continue
        key = path + name
        if key not in _usual:
            key = _named(key)
        if value is not None and key not in found:
            found[key] = _scalar(value)


def _mended(values: dict[str, Any]) -> bool:
    """Flatten values under usual names in place; False if there is an object or null, which takes more than that.

    Every property of nearly every event comes by here: no calls for the usual ones."""
    for name, value in values.items():
        kind = type(value)
        if kind is str:
            if len(value) > MOST_CHARACTERS:
                values[name] = value[:MOST_CHARACTERS]
        elif kind is bool:
            values[name] = "true" if value else "false"
        elif kind is list:
            values[name] = _scalar(value)
        elif kind is not int and kind is not float:
            return False
    return True


def _named(key: str) -> str:
    """The key as Heap takes it; remembered if that changes nothing."""
    named = (key + "_" if OWN_NAME.fullmatch(key) else key)[:MOST_CHARACTERS]
    if named == key:
        if len(_usual) >= NAMES_REMEMBERED:
            _usual.clear()  # those that are really usual are back at once
        _usual.add(key)
    return named


def _scalar(value: Any) -> Scalar:
    if isinstance(value, str):
        return value[:MOST_CHARACTERS]
    if isinstance(value, list):
        return "||".join(str(_scalar(entry)) for entry in value if entry is not None)[:MOST_CHARACTERS]
    if isinstance(value, bool | dict):
        return orjson.dumps(value).decode()[:MOST_CHARACTERS]
    return value  # type: ignore[no-any-return]
