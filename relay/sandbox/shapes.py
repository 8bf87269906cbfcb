"""Events shaped like real ones: for each Currents type its fields, filled with plausible values.

`shapes.json` says which fields a type has and what kind of value a field holds. It follows the samples that Braze
publishes (Currents v10 and v11); the few types without one have the fields of their nearest relatives.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from random import Random
from typing import Any, Final
from uuid import UUID

from relay.sandbox.braze.oddities import ODDITIES, placeholders

LOOKS: Final = 32
"""Different sets of properties per type: as many campaigns, devices, texts."""
USERS: Final = 500
"""Of whom events are: `user-1`, `user-2`, ..., as the profiles of Braze's stand-in."""
ODD_LOOKS: Final = {1: "null_names", 2: "no_campaign", 3: "no_canvas", 4: "redacted", 5: "unknown_field"}
"""Some looks have an oddity."""
ANONYMOUS_EVERY: Final = 10
"""Each so many-th user has no `external_user_id`: Braze sends events of anonymous users too."""
PUBLIC_PAGE: Final = "users.messages.landingpage.Impression"
"""Its events have no user (Braze docs, Landing pages)."""
TYPICAL_AGE_SECONDS: Final = 60

Properties = dict[str, Any]


def make_event(type: str, rng: Random, now: float) -> dict[str, Any]:
    """Make an event of a Currents type with an id of its own, shortly before `now` (Unix seconds).

    Raises KeyError for a type that has no shape. Most users and properties come again, as they do in life.
    """
    time = int(now - rng.expovariate(1 / TYPICAL_AGE_SECONDS))
    properties = dict(rng.choice(_looks(type)))
    if "time_ms" in properties:
        properties["time_ms"] = time * 1000 + rng.randrange(1000)
    return {
        "event_type": type,
        "id": str(_uuid(rng)),
        "time": time,
        "user": _user(type, rng),
        "properties": properties,
    }


def make_test_event(type: str, rng: Random, now: float) -> dict[str, Any]:
    """Make one as the button Send Test Events does: of the right type, but senseless. Raises KeyError as above."""
    event = make_event(type, rng, now)
    return event | {part: placeholders(event[part], rng) for part in ("user", "properties")}


def types() -> Sequence[str]:
    """Every event type that has a shape, in alphabetical order."""
    return tuple(_shapes()["types"])


def _user(type: str, rng: Random) -> dict[str, str]:
    user = rng.choice(_users())
    if type == PUBLIC_PAGE:
        return {}
    if type.endswith(".InboundReceive") and "external_user_id" not in user:
        return {}  # a stranger has written: Braze knows no user for the number (Currents schema: `user_id` is optional)
    return {field: user[field] for field in _shapes()["types"][type]["user"].split() if field in user}


@cache
def _shapes() -> Any:
    return json.loads(files(__package__).joinpath("shapes.json").read_bytes())


@cache
def _users() -> list[dict[str, str]]:
    rng = Random("users")
    return [_new_user(number, rng) for number in range(USERS)]


def _new_user(number: int, rng: Random) -> dict[str, str]:
    user = {
        "user_id": _hex(rng),
        "external_user_id": f"user-{number}",
        "device_id": str(_uuid(rng)),
        "timezone": rng.choice(("America/New_York", "Europe/Berlin", "Asia/Tokyo")),
    }
    if number % ANONYMOUS_EVERY == 0:
        del user["external_user_id"]
    return user


@cache
def _looks(type: str) -> list[Properties]:
    fields = _shapes()["types"][type]["properties"].split()
    return [_oddity(number, {field: _value(field, number) for field in fields}) for number in range(LOOKS)]


def _oddity(look: int, properties: Properties) -> Properties:
    """Give a few of the looks what Braze documents and receivers stumble over."""
    if look not in ODD_LOOKS:
        return properties
    odd: Properties = ODDITIES[ODD_LOOKS[look]]({"properties": properties}, Random(look))["properties"]
    return odd


def _value(field: str, look: int) -> Any:
    kind = _shapes()["fields"][field]
    if isinstance(kind, list):
        return kind[look % len(kind)]
    return KINDS[kind](field, look, Random(f"{field} {look}"))


def _uuid(rng: Random) -> UUID:
    return UUID(int=rng.getrandbits(128), version=4)


def _hex(rng: Random) -> str:
    """24 hex digits, as a Braze `user_id` has."""
    return f"{rng.getrandbits(96):024x}"


def _name(field: str, look: int) -> str:
    return f"{field.removesuffix('_name').replace('_', ' ').capitalize()} {look}"


def _object(look: int) -> dict[str, Any]:
    return {"listProperty": ["a", "b"], "numberProperty": look, "stringProperty": "free delivery"}


KINDS: Final[Mapping[str, Callable[[str, int, Random], Any]]] = {
    "bool": lambda field, look, rng: rng.random() < 0.5,
    "email": lambda field, look, rng: f"customer-{look:04}@example.com",
    "float": lambda field, look, rng: round(rng.uniform(0, 90), 2),
    "hex": lambda field, look, rng: _hex(rng),
    "int": lambda field, look, rng: rng.randrange(1000),
    "ip": lambda field, look, rng: f"192.0.2.{look}",
    "json": lambda field, look, rng: json.dumps(_object(look)),
    "milliseconds": lambda field, look, rng: 0,  # the event's own time: filled in with it
    "name": lambda field, look, rng: _name(field, look),
    "object": lambda field, look, rng: _object(look),
    "phone": lambda field, look, rng: f"+1202555{look:04}",
    "seconds": lambda field, look, rng: 1_750_000_000 + rng.randrange(10_000_000),
    "text": lambda field, look, rng: f'{_name(field, look)}: "größer", 20 % off',
    "token": lambda field, look, rng: rng.randbytes(32).hex(),
    "url": lambda field, look, rng: f"https://shop.example.com/offers/{look}?from=message",
    "urls": lambda field, look, rng: [f"https://media.example.com/{look}.jpg"],
    "user_agent": lambda field, look, rng: "Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X)",
    "uuid": lambda field, look, rng: str(_uuid(rng)),
}
