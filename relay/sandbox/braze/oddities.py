"""Oddities that receivers of Currents stumble over, by name. Braze documents them, or has them in its samples."""

import hashlib
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final
from uuid import UUID

LARGE_BYTES: Final = 890_000
"""Braze drops events over 900 KB."""
LATE_S: Final = 30 * 86_400
"""Devices send events of their time offline later. Braze does not document how much later at most."""
LATER: Final = "field_of_a_later_release"

Event = dict[str, Any]


def _drop_fields(part: str, *fields: str) -> Callable[[Event, Random], Event]:
    """Make an oddity that drops all fields whose names start with one of `fields`."""

    def drop(event: Event, rng: Random) -> Event:
        kept = {key: value for key, value in event[part].items() if not key.startswith(fields)}
        return event | {part: kept}

    return drop


def _change_each(change: Callable[[str, Any], Any]) -> Callable[[Event, Random], Event]:
    """Make an oddity that puts every property through `change`."""

    def apply(event: Event, rng: Random) -> Event:
        return event | {"properties": {key: change(key, value) for key, value in event["properties"].items()}}

    return apply


ODDITIES: Final[Mapping[str, Callable[[Event, Random], Event]]] = {
    "unknown_type": lambda event, rng: event | {"event_type": "users.messages.pigeon.Send"},
    "unknown_field": lambda event, rng: event | {"properties": event["properties"] | {LATER: {"grün": [1, 2.5, None]}}},
    "no_external_user_id": _drop_fields("user", "external_user_id"),
    "no_user_id": _drop_fields("user", "user_id"),
    "no_device_id": _drop_fields("user", "device_id"),
    "no_user": lambda event, rng: event | {"user": {}},
    "no_campaign": _drop_fields("properties", "campaign_"),
    "no_canvas": _drop_fields("properties", "canvas_"),
    "null_names": _change_each(lambda key, value: None if key.endswith("_name") else value),
    "redacted": _change_each(lambda key, value: "[REDACTED]" if "email" in key else value),
    "hashed": _change_each(
        lambda key, value: (
            hashlib.sha256(value.encode()).hexdigest() if isinstance(value, str) and "email" in key else value
        )
    ),
    "late": lambda event, rng: event | {"time": event["time"] - rng.randrange(LATE_S)},
    "large": lambda event, rng: event | {"properties": event["properties"] | {LATER: "x" * LARGE_BYTES}},
}


def make_placeholders(value: Any, rng: Random) -> Any:
    """Replace every text by a random UUID, as Braze does for the button Send Test Events."""
    match value:
        case dict():
            return {key: make_placeholders(part, rng) for key, part in value.items()}
        case list():
            return [make_placeholders(part, rng) for part in value]
        case str():
            return str(UUID(int=rng.getrandbits(128), version=4))
        case _:
            return value
