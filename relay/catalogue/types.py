"""The event types that Braze documents (Braze docs, Currents event pages), with their groups and channels.

The groups are Braze's own words: message_engagement, customer_behavior, user. The channels are ours; most are the third
part of a message's type. Retired types are listed for old data. New types come monthly, so nothing may depend on a type
being in here. Before mid-2021 Braze left out the `users.` prefix; such names are unknown types.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class EventType:
    """What is known of an event type. `status` is `current` or `retired`."""

    group: str
    channel: str
    status: str


def _read(file: Path) -> Mapping[str, EventType]:
    with file.open(encoding="utf-8", newline="") as lines:
        return MappingProxyType({row.pop("type"): EventType(**row) for row in csv.DictReader(lines)})


TYPES: Final = _read(Path(__file__).with_name("types.csv"))
"""Every catalogued type by its name, for instance `users.messages.email.Open`."""
