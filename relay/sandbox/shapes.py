"""Made-up events in the form of real events: the fields of each Currents type, with plausible values.

`shapes.json` has the fields of each type, and the kind of value of each field. It follows the samples that Braze
publishes (Currents v10 and v11). The few types without a sample have the fields of similar types.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from random import Random
from typing import Any, Final
from uuid import UUID

from relay.sandbox.braze.oddities import ODDITIES, make_placeholders

VARIANTS: Final = 32
"""Sets of properties per type, each with another campaign, device and text."""
USERS: Final = 500
"""Users of the events: `user-1`, `user-2`, ..., as the profiles of the stand-in of Braze."""
ODD_VARIANTS: Final = {1: "null_names", 2: "no_campaign", 3: "no_canvas", 4: "redacted", 5: "unknown_field"}
"""Variants with an oddity."""
ANONYMOUS_EVERY: Final = 10
"""One user of so many has no `external_user_id`: Braze sends events of anonymous users too."""
PUBLIC_PAGE: Final = "users.messages.landingpage.Impression"
"""An event type without a user (Braze docs, Landing pages)."""
TYPICAL_AGE_SECONDS: Final = 60

Properties = dict[str, Any]


def make_event(type: str, rng: Random, now: float) -> dict[str, Any]:
    """Make an event of a Currents type with a random id and a time shortly before `now` (Unix seconds).

    Users and properties repeat, as in real life. Raises KeyError for a type without a shape.
    """
    time = int(now - rng.expovariate(1 / TYPICAL_AGE_SECONDS))
    properties = dict(rng.choice(_make_variants(type)))
    if "time_ms" in properties:
        properties["time_ms"] = time * 1000 + rng.randrange(1000)
    return {
        "event_type": type,
        "id": str(_make_uuid(rng)),
        "time": time,
        "user": _choose_user(type, rng),
        "properties": properties,
    }


def make_sample(type: str, now: float) -> dict[str, Any]:
    """Make the same event of a type each time, but for its time: of a known user, and without an oddity.

    Raises KeyError as `make_event`.
    """
    event, properties = make_event(type, Random(type), now), dict(_make_variants(type)[0])
    if "time_ms" in properties:
        properties["time_ms"] = int(now) * 1000
    return event | {"time": int(now), "user": _fill_user(type, _make_users()[1]), "properties": properties}


def make_test_event(type: str, rng: Random, now: float) -> dict[str, Any]:
    """Make an event of the button Send Test Events: every text is a placeholder. Raises KeyError as `make_event`."""
    event = make_event(type, rng, now)
    return event | {part: make_placeholders(event[part], rng) for part in ("user", "properties")}


def list_types() -> Sequence[str]:
    """Return every event type with a shape, in alphabetical order."""
    return tuple(_load_shapes()["types"])


def _choose_user(type: str, rng: Random) -> dict[str, str]:
    user = rng.choice(_make_users())
    if type == PUBLIC_PAGE:
        return {}
    if type.endswith(".InboundReceive") and "external_user_id" not in user:
        return {}  # a stranger has written: Braze knows no user for the number (Currents schema: `user_id` is optional)
    return _fill_user(type, user)


def _fill_user(type: str, user: dict[str, str]) -> dict[str, str]:
    return {field: user[field] for field in _load_shapes()["types"][type]["user"].split() if field in user}


@cache
def _load_shapes() -> Any:
    return json.loads(files(__package__).joinpath("shapes.json").read_bytes())


@cache
def _make_users() -> list[dict[str, str]]:
    rng = Random("users")
    users = [
        {
            "user_id": _make_hex(rng),
            "external_user_id": f"user-{number}",
            "device_id": str(_make_uuid(rng)),
            "timezone": rng.choice(("America/New_York", "Europe/Berlin", "Asia/Tokyo")),
        }
        for number in range(USERS)
    ]
    for user in users[::ANONYMOUS_EVERY]:
        del user["external_user_id"]
    return users


@cache
def _make_variants(type: str) -> list[Properties]:
    kinds = {field: _load_shapes()["fields"][field] for field in _load_shapes()["types"][type]["properties"].split()}
    variants = [
        {
            field: kind[variant % len(kind)]
            if isinstance(kind, list)
            else KINDS[kind](field, variant, Random(f"{field} {variant}"))
            for field, kind in kinds.items()
        }
        for variant in range(VARIANTS)
    ]
    for variant, oddity in ODD_VARIANTS.items():
        variants[variant] = ODDITIES[oddity]({"properties": variants[variant]}, Random(variant))["properties"]
    return variants


def _make_uuid(rng: Random) -> UUID:
    return UUID(int=rng.getrandbits(128), version=4)


def _make_hex(rng: Random) -> str:
    """Make 24 hex digits, as a `user_id` of Braze has."""
    return f"{rng.getrandbits(96):024x}"


def _make_name(field: str, variant: int) -> str:
    return f"{field.removesuffix('_name').replace('_', ' ').capitalize()} {variant}"


def _make_object(variant: int) -> dict[str, Any]:
    return {"listProperty": ["a", "b"], "numberProperty": variant, "stringProperty": "free delivery"}


KINDS: Final[Mapping[str, Callable[[str, int, Random], Any]]] = {
    "bool": lambda field, variant, rng: rng.random() < 0.5,
    "email": lambda field, variant, rng: f"customer-{variant:04}@example.com",
    "float": lambda field, variant, rng: round(rng.uniform(0, 90), 2),
    "hex": lambda field, variant, rng: _make_hex(rng),
    "int": lambda field, variant, rng: rng.randrange(1000),
    "ip": lambda field, variant, rng: f"192.0.2.{variant}",
    "json": lambda field, variant, rng: json.dumps(_make_object(variant)),
    "milliseconds": lambda field, variant, rng: 0,  # the event's own time: filled in with it
    "name": lambda field, variant, rng: _make_name(field, variant),
    "object": lambda field, variant, rng: _make_object(variant),
    "phone": lambda field, variant, rng: f"+1202555{variant:04}",
    "seconds": lambda field, variant, rng: 1_750_000_000 + rng.randrange(10_000_000),
    "text": lambda field, variant, rng: f'{_make_name(field, variant)}: "größer", 20 % off',
    "token": lambda field, variant, rng: rng.randbytes(32).hex(),
    "url": lambda field, variant, rng: f"https://shop.example.com/offers/{variant}?from=message",
    "urls": lambda field, variant, rng: [f"https://media.example.com/{variant}.jpg"],
    "user_agent": lambda field, variant, rng: "Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X)",
    "uuid": lambda field, variant, rng: str(_make_uuid(rng)),
}
