"""The event types that Braze documents (Braze docs, Currents event pages), with their groups and channels.

The groups are Braze's own words: message_engagement, customer_behavior, user. The channels are ours; most are the third
part of a message's type. Retired types are listed for old data. New types come monthly, so nothing may depend on a type
being in here. Before mid-2021 Braze left out the `users.` prefix; such names are unknown types.
"""

import csv
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from msgspec import Struct


class EventType(Struct, frozen=True):
    """An event type. `status` is `current`, `retired`, or `unknown`: not in the catalogue."""

    group: str
    channel: str
    status: str


def _read(file: Path) -> Mapping[str, EventType]:
    with file.open(encoding="utf-8", newline="") as lines:
        return MappingProxyType({row.pop("type"): EventType(**row) for row in csv.DictReader(lines)})


TYPES: Final = _read(Path(__file__).with_name("types.csv"))
"""Every catalogued type by its name, for instance `users.messages.email.Open`."""

_FAMILIES: Final = {
    "users.messages": ("message_engagement", ""),
    "users.campaigns": ("message_engagement", "campaign"),
    "users.canvas": ("message_engagement", "canvas"),
    "users.canvasstep": ("message_engagement", "canvas"),
    "users.behaviors": ("customer_behavior", ""),
    "users.behaviors.app": ("customer_behavior", "session"),
    "users.behaviors.liveactivity": ("customer_behavior", "liveactivity_token"),
    "users.behaviors.pushnotification": ("customer_behavior", "push_token"),
    "users.behaviors.subscription": ("message_engagement", "subscription"),
    "users.behaviors.subscriptiongroup": ("message_engagement", "subscription"),
    "users.profile": ("user", "profile"),
    "agentconsole": ("message_engagement", "agent"),
    "contentoptimizer": ("message_engagement", "content_optimizer"),
}
"""Group and channel by the first parts of a name; the longest counts."""


def find_type(name: str) -> EventType | None:
    """Return a type, or what the name of an uncatalogued type tells; None if it tells nothing.

    The third part of `users.messages.*` is the channel.
    """
    if known := TYPES.get(name):
        return known
    parts = name.split(".")
    for length in range(min(3, len(parts) - 1), 0, -1):
        if family := _FAMILIES.get(".".join(parts[:length])):
            group, channel = family
            return EventType(group, parts[2] if parts[1] == "messages" and len(parts) > 2 else channel, "unknown")
    return None
