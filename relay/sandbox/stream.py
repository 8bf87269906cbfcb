"""Made-up events for the stand-in of Braze: a stream, single events, test events, the events of a campaign."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import orjson

from relay.catalogue import Selection
from relay.sandbox.braze.oddities import ODDITIES
from relay.sandbox.braze.sender import CurrentsSender
from relay.sandbox.shapes import list_types, make_event, make_test_event

EVERY_S: Final = 0.05
"""Real seconds between two rounds of a stream."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Made-up events of the chosen types for a sender."""

    sender: CurrentsSender
    chosen: Sequence[str] = field(default_factory=list_types)
    rng: Random = field(default_factory=Random)

    @classmethod
    def select(cls, sender: CurrentsSender, entries: Sequence[str]) -> "Stream":
        """Select types as conf.d does: groups, channels, types and globs. Raises ValueError if no type is selected."""
        selection = Selection(entries)
        chosen = [kind for kind in list_types() if selection.wants(kind)]
        if not chosen:
            raise ValueError(f"no event type is {', '.join(entries)}")
        return cls(sender, chosen)

    async def make_events(self, rate: float) -> AsyncIterator[tuple[str, bytes]]:
        """Make `rate` events in a real second, of the types in turn, some with an oddity; 0 makes no events."""
        owed, number = 0.0, 0
        while True:
            await asyncio.sleep(EVERY_S)
            owed += rate * EVERY_S
            while owed >= 1:
                owed, number = owed - 1, number + 1
                kind = self.chosen[number % len(self.chosen)]
                event = make_event(kind, self.rng, self.sender.clock())
                if self.rng.random() < self.sender.switches.odd:
                    event = self.rng.choice([*ODDITIES.values()])(event, self.rng)
                yield event["event_type"], orjson.dumps(event)

    def queue_events(self, kind: str, count: int, odd: str | None, changes: Mapping[str, Any]) -> None:
        """Queue `count` events of a type. `changes`: fields of `user` and `properties`.

        Raises KeyError for an unknown type or oddity.
        """
        for _ in range(count):
            event = make_event(kind, self.rng, self.sender.clock())
            event |= {part: event[part] | dict(changes.get(part, {})) for part in ("user", "properties")}
            self._queue(ODDITIES[odd](event, self.rng) if odd else event)

    def queue_test_events(self) -> int:
        """Queue a test event of each chosen type, and send them at once. Return their number."""
        for kind in self.chosen:
            self._queue(make_test_event(kind, self.rng, self.sender.clock()))
        self.sender.flush()
        return len(self.chosen)

    def queue_campaign(self, kind: str, external_ids: Iterable[str], name: str) -> int:
        """Queue an event of a campaign for each user. Return their number."""
        users = sorted(external_ids)
        for user in users:
            changes = {"user": {"external_user_id": user}, "properties": {"campaign_name": name}}
            self.queue_events(kind, 1, None, changes)
        return len(users)

    def _queue(self, event: Mapping[str, Any]) -> None:
        self.sender.add(event["event_type"], orjson.dumps(event))
