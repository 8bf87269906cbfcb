"""Made-up events of one's choice for a stand-in of Braze to send: a stream, some at once, test events, a campaign's."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import orjson

from relay.catalogue import Selection
from relay.sandbox.braze.oddities import ODDITIES
from relay.sandbox.braze.sender import CurrentsSender
from relay.sandbox.shapes import make_event, make_test_event, types

EVERY_S: Final = 0.05
"""Real seconds between two looks at the rate."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Events of the chosen types."""

    sender: CurrentsSender
    chosen: Sequence[str] = field(default_factory=types)
    rng: Random = field(default_factory=Random)

    @classmethod
    def of(cls, sender: CurrentsSender, entries: Sequence[str]) -> "Stream":
        """Choose types as conf.d does it: groups, channels, types and globs. Raises ValueError if that leaves none."""
        selection = Selection(entries)
        chosen = [kind for kind in types() if selection.wants(kind)]
        if not chosen:
            raise ValueError(f"no event type is {', '.join(entries)}")
        return cls(sender, chosen)

    async def events(self, rate: float) -> AsyncIterator[tuple[str, bytes]]:
        """Make `rate` of them in a real second, of the types in turn, some of them odd; 0 makes none."""
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

    def send(self, kind: str, count: int, odd: str | None, changes: Mapping[str, Any]) -> None:
        """Queue some. `changes` are fields of `user` and `properties`. Raises KeyError for an unknown type, oddity."""
        for _ in range(count):
            event = make_event(kind, self.rng, self.sender.clock())
            event |= {part: event[part] | dict(changes.get(part, {})) for part in ("user", "properties")}
            self._queue(ODDITIES[odd](event, self.rng) if odd else event)

    def test_events(self) -> int:
        """Queue one of each chosen type, with placeholders for values, and send them; return how many."""
        for kind in self.chosen:
            self._queue(make_test_event(kind, self.rng, self.sender.clock()))
        self.sender.flush()
        return len(self.chosen)

    def campaign(self, kind: str, external_ids: Iterable[str], name: str) -> int:
        """Queue what a message to these users leads to; return how many."""
        users = sorted(external_ids)
        for user in users:
            self.send(kind, 1, None, {"user": {"external_user_id": user}, "properties": {"campaign_name": name}})
        return len(users)

    def _queue(self, event: Mapping[str, Any]) -> None:
        self.sender.add(event["event_type"], orjson.dumps(event))
