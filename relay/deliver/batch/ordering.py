"""The order of events by key: which events may go now. Pure."""

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from relay.api import BatchSettings, Event

Place = tuple[int, int]
"""The offset of an event, and the number of its part."""


Keys = Callable[[Collection[Event]], Sequence[str | None]]
"""Finds the key of each event."""


class Admitted(NamedTuple):
    """Events that may go, batch by batch, and events to park behind a parked event of their key. The rest waits."""

    going: list[list[Event]]
    behind: list[Event]


class Together:
    """Events that go in one batch, once all their keys are free."""

    def __init__(self, events: Sequence[tuple[Event, str | None]]) -> None:
        self.events = events
        self.keys = Counter(key for _, key in events if key is not None)
        """How many events each key has."""
        self.lacking: set[str] = set()
        """The keys that are not free yet."""

    def find_first(self, key: str) -> int:
        """Return the offset of the first event of a key."""
        return next(event.offset for event, mine in self.events if mine == key)


class Order:
    """Keeps the events of each key in order: one goes after the other, or several go together. Other keys go beside
    them.

    With `park`, events behind a parked event of their key are parked too, so none is delivered before an earlier event.
    They go one by one then, because any of them may be parked. Events on their way to be parked are under way as well:
    others of their key wait.

    Events that were sent together before a restart go together again. They wait until all their keys are free, and hold
    the free keys meanwhile. They are admitted before all others, in the order in which they were sent. So each key is
    theirs in that order, and no two batches wait for each other."""

    def __init__(self, keys: Keys, limits: BatchSettings, *, park: bool) -> None:
        self._find_keys, self._park = keys, park
        self.limits = limits
        self._keys: dict[Place, str] = {}
        """The keys of the events under way that have a key."""
        self._under_way: dict[str, int] = {}
        self._waiting: dict[str, list[Event]] = {}
        """Waiting events by key, without what was decoded of them: there may be many."""
        self._together: dict[str, deque[Together]] = {}
        """Events that wait together for a key, before all other events of the key."""
        self._parked: set[str] = set()
        self._parked_since: set[str] = set()
        """Keys of events that were parked since `begin_reading_parked`."""

    def admit(self, events: Collection[Event]) -> Admitted:
        """Sort new events, in the journal's order."""
        return self._admit(zip(events, self._find_keys(events), strict=True))

    def admit_together(self, events: Collection[Event]) -> Admitted:
        """Sort events that were sent together before: they go together again."""
        keys = self._find_keys(events)
        one = Together([(event.with_body(event.body), key) for event, key in zip(events, keys, strict=True)])
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
            if not admitted.going or (
                len(admitted.going[-1]) >= self.limits.events or size + len(event.body) > self.limits.size
            ):
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

    def settle(self, places: Iterable[Place], *, parked: bool) -> Admitted:
        """Settle events that were under way; return what may go because of that."""
        keys = [self._keys.pop(place) for place in places if place in self._keys]
        if parked and self._park:
            self._parked.update(keys)
            self._parked_since.update(keys)
        freed: list[tuple[Event, str | None]] = []
        together: list[Together] = []
        for key in keys:
            self._under_way[key] -= 1
            if not self._under_way[key]:
                del self._under_way[key]
                if (one := self._hand_key_on(key)) is None:
                    freed += ((event, key) for event in self._waiting.pop(key, []))
                elif not one.lacking:
                    together.append(one)
        admitted = self._admit(sorted(freed, key=lambda one: one[0].offset))
        for one in together:
            going, behind = self._admit_together(one)
            admitted.going.extend(going)
            admitted.behind.extend(behind)
        return admitted

    def _hand_key_on(self, key: str) -> Together | None:
        """Give a free key to the first events that wait together for it; return those events. Return None without any,
        or if an earlier event of the key waits by itself."""
        together, waiting = self._together.get(key), self._waiting.get(key)
        if not together or (waiting and waiting[0].offset <= together[0].find_first(key)):
            return None
        one = together.popleft()
        if not together:
            del self._together[key]
        one.lacking.remove(key)
        self._under_way[key] = one.keys[key]
        return one

    def begin_parking(self, events: Iterable[Event]) -> None:
        """Count events as under way that are about to be parked before they have gone."""
        every = [*events] if self._park else []
        for event, key in zip(every, self._find_keys(every), strict=True):
            if key is not None:
                self._begin(event, key)

    def begin_reading_parked(self) -> None:
        """Remember which keys are parked from now on: those in the state are about to be read."""
        self._parked_since = set()

    def set_parked_keys(self, keys: Iterable[str]) -> None:
        """Set the keys of parked events, as read from the state."""
        self._parked = {*keys, *self._parked_since}
