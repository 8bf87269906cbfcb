"""What receivers of Currents stumble over, by name: everything here is documented by Braze, or seen in its samples."""

import hashlib
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final
from uuid import UUID

LARGE_BYTES: Final = 890_000
"""Braze drops events over 900 KB."""
LATE_S: Final = 30 * 86_400
"""Devices tell of what they did when they were offline; how much later at most is not documented."""
LATER: Final = "field_of_a_later_release"

Event = dict[str, Any]


def _without(part: str, *fields: str) -> Callable[[Event, Random], Event]:
    """Leave out fields, or all that start so (`campaign_`)."""

    def without(event: Event, rng: Random) -> Event:
        kept = {key: value for key, value in event[part].items() if not key.startswith(fields)}
        return event | {part: kept}

    return without


def _each(change: Callable[[str, Any], Any]) -> Callable[[Event, Random], Event]:
    """Change every property that `change` wants to."""

    def changed(event: Event, rng: Random) -> Event:
        return event | {"properties": {key: change(key, value) for key, value in event["properties"].items()}}

    return changed


def _hashed(key: str, value: Any) -> Any:
    return hashlib.sha256(value.encode()).hexdigest() if isinstance(value, str) and "email" in key else value


def _large(event: Event, rng: Random) -> Event:
    return event | {"properties": event["properties"] | {LATER: "x" * LARGE_BYTES}}


ODDITIES: Final[Mapping[str, Callable[[Event, Random], Event]]] = {
    "unknown_type": lambda event, rng: event | {"event_type": "users.messages.pigeon.Send"},
    "unknown_field": lambda event, rng: event | {"properties": event["properties"] | {LATER: {"grün": [1, 2.5, None]}}},
    "no_external_user_id": _without("user", "external_user_id"),
    "no_user_id": _without("user", "user_id"),
    "no_device_id": _without("user", "device_id"),
    "no_user": lambda event, rng: event | {"user": {}},
    "no_campaign": _without("properties", "campaign_"),
    "no_canvas": _without("properties", "canvas_"),
    "null_names": _each(lambda key, value: None if key.endswith("_name") else value),
    "redacted": _each(lambda key, value: "[REDACTED]" if "email" in key else value),
    "hashed": _each(_hashed),
    "late": lambda event, rng: event | {"time": event["time"] - rng.randrange(LATE_S)},
    "large": _large,
}


def placeholders(value: Any, rng: Random) -> Any:
    """The same with senseless values of the right type, as the button Send Test Events has them: every text a UUID."""
    match value:
        case dict():
            return {key: placeholders(one, rng) for key, one in value.items()}
        case list():
            return [placeholders(one, rng) for one in value]
        case str():
            return str(UUID(int=rng.getrandbits(128), version=4))
        case _:
            return value
