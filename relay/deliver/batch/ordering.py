"""Which events may go now if those of one key are to stay in order. Pure."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from relay.api import BatchSettings, Event

Place = tuple[int, int]
"""The offset of an event, and which part of it."""


class Admitted(NamedTuple):
    """Events that may go, batch by batch, and events to be parked because an earlier one of their key is. The rest
    waits."""

    going: list[list[Event]]
    behind: list[Event]


class Together:
    """Events that go in one batch, once all their keys are free."""

    def __init__(self, events: Sequence[tuple[Event, str | None]]) -> None:
        self.events = events
        self.keys = Counter(key for _, key in events if key is not None)
        """How many events there are of each key."""
        self.lacking: set[str] = set()
        """The keys that are not free yet."""

    def first(self, key: str) -> int:
        """The offset of its first event of this key."""
        return next(event.offset for event, mine in self.events if mine == key)


class Order:
    """Events of one key go one after the other, or several together in their order; those of others beside them.

    With `park`, events behind a parked one are parked too, so that none of a key is ever delivered before an earlier
    one; then they go singly, for it is not known before whether one will be parked. Those on their way to be parked are
    under way as well: others of their key wait until that is done.

    Events that were sent together before a restart go together again: they wait until all their keys are free, and
    have those that are meanwhile. They are admitted before all others, in the order in which they were sent, so each
    key is theirs in that order, and no two of them wait for each other.
    """

    def __init__(self, key: Callable[[Event], str | None], limits: BatchSettings, *, park: bool) -> None:
        self._key, self._park = key, park
        self.limits = limits
        self._keys: dict[Place, str] = {}
        """Of the events under way that have one."""
        self._under_way: dict[str, int] = {}
        self._waiting: dict[str, list[Event]] = {}
        """Without what was decoded of them: there may be many."""
        self._together: dict[str, deque[Together]] = {}
        """What waits for a key, in front of all other events of it."""
        self._parked: set[str] = set()
        self._since: set[str] = set()
        """Keys that were added to those since `reading`."""

    def admit(self, events: Iterable[Event]) -> Admitted:
        """Sort events, in the journal's order, that are new here."""
        return self._admit((event, self._key(event)) for event in events)

    def admit_together(self, events: Iterable[Event]) -> Admitted:
        """Have events that were sent together before go together again."""
        one = Together([(event.with_body(event.body), self._key(event)) for event in events])
        for key, count in one.keys.items():
            if key in self._under_way:
                one.lacking.add(key)
                self._together.setdefault(key, deque()).append(one)
            else:
                self._under_way[key] = count
        return self._admit_together(one)

    def _admit_together(self, one: Together) -> Admitted:
        if one.lacking:
            return Admitted([], [])
        if self._park and self._parked & one.keys.keys():
            for key in one.keys:
                del self._under_way[key]
            return self._admit(one.events)
        self._keys |= {(event.offset, event.part): key for event, key in one.events if key is not None}
        return Admitted([[event for event, _ in one.events]] if one.events else [], [])

    def _admit(self, events: Iterable[tuple[Event, str | None]]) -> Admitted:
        """Sort events with their keys, in the journal's order."""
        admitted = Admitted([], [])
        together: set[str] = set()
        """Keys of which the batch that is forming has events."""
        size = 0
        for event, key in events:
            if key is not None and key in self._parked:
                admitted.behind.append(event)
                self._begin(event, key)
                continue
            if not admitted.going or self._is_full(admitted.going[-1], size + len(event.body)):
                together, size = set(), 0
            if key is not None and key in self._under_way and key not in together:
                self._waiting.setdefault(key, []).append(event.with_body(event.body))
                continue
            if not size:
                admitted.going.append([])
            admitted.going[-1].append(event)
            size += len(event.body) + 1
            if key is not None:
                self._begin(event, key)
                together |= set() if self._park else {key}
        return admitted

    def _begin(self, event: Event, key: str) -> None:
        self._keys[event.offset, event.part] = key
        self._under_way[key] = self._under_way.get(key, 0) + 1

    def _is_full(self, batch: Sequence[Event], size: int) -> bool:
        return len(batch) >= self.limits.events or size > self.limits.size

    def settled(self, places: Iterable[Place], *, parked: bool) -> Admitted:
        """Events that were under way have their outcome; return what may go because of it."""
        keys = [self._keys.pop(place) for place in places if place in self._keys]
        if parked and self._park:
            self._parked.update(keys)
            self._since.update(keys)
        freed: list[tuple[Event, str | None]] = []
        together: list[Together] = []
        for key in keys:
            self._under_way[key] -= 1
            if not self._under_way[key]:
                del self._under_way[key]
                if not self._is_for_together(key):
                    freed += ((event, key) for event in self._waiting.pop(key, []))
                elif not (one := self._give(key)).lacking:
                    together.append(one)
        admitted = self._admit(sorted(freed, key=lambda one: one[0].offset))
        for one in together:
            going, behind = self._admit_together(one)
            admitted.going.extend(going)
            admitted.behind.extend(behind)
        return admitted

    def _is_for_together(self, key: str) -> bool:
        """Whether a key that is free is for events that go together."""
        if key not in self._together:
            return False
        waiting = self._waiting.get(key)
        return not waiting or waiting[0].offset > self._together[key][0].first(key)

    def _give(self, key: str) -> Together:
        """Have the first of those that wait together for a key have it."""
        waiting = self._together[key]
        one = waiting.popleft()
        if not waiting:
            del self._together[key]
        one.lacking.remove(key)
        self._under_way[key] = one.keys[key]
        return one

    def failed(self, events: Iterable[Event]) -> None:
        """These are on their way to be parked, before they have gone."""
        for event in events if self._park else ():
            if (key := self._key(event)) is not None:
                self._begin(event, key)

    def reading(self) -> None:
        """The keys of parked events are about to be read."""
        self._since = set()

    def read(self, keys: Iterable[str]) -> None:
        """These are the keys of parked events."""
        self._parked = {*keys, *self._since}
