"""The rest of a batch: parts of it without an outcome, each to be tried again at its own time. Pure but for its dice.

- What the connector says of single events holds for them: each waits for what was asked for it.
- A part at which the connector fails by a bug SPLIT_TRIES times is searched: halves of it are tried, and halves of
  halves that fail. The culprit is an event that has failed alone, PARK_TRIES times in a row or more, while other events
  have got through since its first failure, in any batch. The culprit is parked.
- If nothing gets through, in as many attempts as it takes to find one culprit and SPARE more, the connector fails at
  everything. The events are put together again and tried as a whole. The next search comes after twice as many tries,
  or once something has got through.
- What could not be delivered for `give_up_after` is searched as well. Here an event that fails alone is parked in any
  case, and so is everything if nothing gets through.
"""

import random
from collections.abc import Callable, Sequence
from math import inf
from typing import Final, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from relay.api import Batch, RetrySettings
from relay.deliver.result import AttemptResult, Deferral, DestinationRefusal
from relay.deliver.retry import draw_retry_delay

SPLIT_TRIES: Final = 3
PARK_TRIES: Final = 5
SPARE: Final = 4
Keys = Callable[[Batch], Sequence[str | None]]
"""Returns the key of each event of a batch, by which events stay in order."""


class Part(Struct, frozen=True, eq=False):
    """Some events of a batch that are tried together."""

    batch: Batch
    numbers: Sequence[int]
    """The numbers of its events in the whole batch."""
    due: float = 0.0
    """When it may be tried again, in monotonic seconds."""
    alone: bool = False
    """The part waits for itself. The destination takes other events meanwhile."""
    bugs: int = 0
    """How often in a row the connector has failed at it by a bug."""
    since: float = inf
    """If another attempt has got through that began then or later, these events are to blame."""
    searched: bool = False
    """Whether a culprit is searched in it."""
    last: bool = False
    """Whether it is given up if it fails once more alone."""
    is_new: bool = False
    """Whether these events, and no others, go out together for the first time."""

    def pick(self, numbers: Sequence[int], attempt: int) -> "Part":
        """Return the part with these events of this part."""
        is_whole = len(numbers) == len(self.batch)
        batch = self.batch if is_whole else self.batch.pick(numbers)
        own = [self.numbers[number] for number in numbers]
        return replace(self, batch=Batch(batch.blocks, attempt), numbers=own, is_new=self.is_new or not is_whole)


class NextAttempt(NamedTuple):
    """What follows from an attempt."""

    halved: Sequence[tuple[Batch, Sequence[Batch]]]
    """Batches that go out in halves from now on."""
    parked: Sequence[tuple[Batch, Sequence[DestinationRefusal]]]
    """Events to park."""
    wait: float | None
    """Seconds until the next attempt at the destination; None if the destination is not to blame."""


class Remainder:
    """The parts of one batch; with `keys`, events have to stay in order."""

    def __init__(
        self, batch: Batch, retry: RetrySettings, now: float, keys: Keys | None, chance: random.Random
    ) -> None:
        self._batch, self._retry, self._keys, self._chance = batch, retry, keys, chance
        self._key_of_each: Sequence[str | None] | None = None
        """The key of each event, once it was needed."""
        self._parts = [Part(batch, range(len(batch)))]
        self._given_up = now + retry.give_up_after if retry.give_up_after else inf
        self._failed_in_search, self._most = 0, len(batch).bit_length() + SPARE
        """Attempts of the current search without success, and their highest number."""
        self._tries = SPLIT_TRIES
        """How often the connector has to fail before a search begins."""
        self._forward = True
        """Which half goes first in a search. The next search begins with the other half."""
        self._to_park: list[tuple[Batch, Sequence[DestinationRefusal]]] = []
        self._halved: list[tuple[Batch, Sequence[Batch]]] = []

    def __bool__(self) -> bool:
        """Whether an event has no outcome yet."""
        return bool(self._parts)

    @property
    def waits_for_destination(self) -> bool:
        """Whether the events wait for the destination, so that other batches would fare no better."""
        return not all(part.alone or part.bugs for part in self._parts)

    @property
    def due(self) -> float:
        """When the next part is to be tried, in monotonic seconds."""
        return min(part.due for part in self._parts)

    def make_due(self) -> None:
        """Make all parts due at once."""
        self._parts = [replace(part, due=0.0) for part in self._parts]

    def take(self) -> Part:
        """Return the part to try next. Pass the result to `record`."""
        part = min(reversed(self._parts), key=lambda part: part.due)
        self._parts.remove(part)
        if not (self._keys and self._parts):
            return part
        if self._key_of_each is None:
            self._key_of_each = self._keys(self._batch)
            self._batch.let_go()
        return self._set_blocked_aside(part, self._key_of_each)

    def _set_blocked_aside(self, part: Part, keys: Sequence[str | None]) -> Part:
        """Set aside the events that wait for an earlier event of their key in another part. Return the other events or,
        without others, the part that goes first."""
        blocking: dict[str, tuple[int, Part]] = {}
        for other in self._parts:
            for number in other.numbers:
                if (key := keys[number]) is not None:
                    blocking[key] = min(blocking.get(key, (number, other)), (number, other), key=lambda one: one[0])
        held = {n: blocking[key] for n, key in ((n, keys[n]) for n in part.numbers) if key in blocking}
        blocked = [at for at, n in enumerate(part.numbers) if n in held and held[n][0] < n]
        if not blocked:
            return part
        until = max(held[part.numbers[at]][1].due for at in blocked)
        waiting = replace(part.pick(blocked, part.batch.attempt), due=max(until, part.due))
        self._parts.insert(0, waiting)  # of those that are due at once it comes last
        free = [at for at in range(len(part.numbers)) if at not in {*blocked}]
        return part.pick(free, part.batch.attempt) if free else self.take()

    def _halve(self, part: Part, attempt: int, *, by_size: bool = False, forward: bool = True) -> None:
        """Split a part in halves, which go one by one."""
        first, _ = part.batch.halves(by_size=by_size)
        every = range(len(part.batch))
        picked = [part.pick(every[: len(first)], attempt), part.pick(every[len(first) :], attempt)]
        halves = [replace(half, due=0.0, is_new=False) for half in picked]
        self._parts += reversed(halves) if forward else halves
        self._halved.append((part.batch, [half.batch for half in halves]))

    def record(self, part: Part, result: AttemptResult, now: float, proof: float) -> NextAttempt:
        """Record the result of an attempt at a part. `proof`: when the last attempt began that got events through."""
        self._to_park, self._halved, part = [], [], replace(part, is_new=False)
        if result.split:
            self._halve(part, 1, by_size=result.too_large)
            return NextAttempt(self._halved, (), None)
        if result.settles_any:
            self._failed_in_search = 0
        waits = [self._defer(part, why, result, now, proof) for why in result.deferred]
        if self._failed_in_search > self._most:
            self._end_search(result.deferred[0], part.batch.attempt, now)
        return NextAttempt(self._halved, self._to_park, min((wait for wait in waits if wait is not None), default=None))

    def _defer(self, whole: Part, why: Deferral, result: AttemptResult, now: float, proof: float) -> float | None:
        """Have events tried again; return in how many seconds, None if the destination is not to blame."""
        tried = whole.batch.attempt
        part = replace(whole.pick(why.numbers, tried + (not why.alone)), alone=why.alone)
        if why.alone:
            self._wait(part, now + (self._retry.first if why.after is None else why.after))
            return None
        single = result.by_event or len(part.numbers) == 1
        if not why.unauthorized and (part.last or now >= self._given_up):
            self._failed_in_search += 1
            if single:
                self._park(part, why)
            else:
                self._halve(replace(part, last=True), part.batch.attempt)
            return None if why.bug else 0.0
        delay = self._delay(tried, why.after)
        if why.bug:
            since = proof if result.by_event and result.settles_any else now
            part = replace(part, bugs=part.bugs + 1, since=min(since, part.since))
            self._search(part, why, now + delay, single=single, is_proven=proof >= part.since)
            return None
        self._wait(replace(part, bugs=0, since=inf), now + delay)
        return delay

    def _delay(self, tried: int, after: float | None = None) -> float:
        return draw_retry_delay(
            tried, first=self._retry.first, longest=self._retry.max, after=after, chance=self._chance
        )

    def _wait(self, part: Part, due: float) -> None:
        self._parts.append(replace(part, due=due, searched=False))

    def _park(self, part: Part, why: Deferral) -> None:
        every = why._replace(numbers=range(len(part.batch)))
        self._to_park.append((Batch(part.batch.blocks, max(1, part.batch.attempt - 1)), every.make_refusals()))

    def _search(self, part: Part, why: Deferral, due: float, *, single: bool, is_proven: bool) -> None:
        """Record that the connector has failed at these events by a bug: search the culprit, park it, or wait."""
        self._failed_in_search += part.searched and not is_proven
        if single and is_proven and part.bugs >= PARK_TRIES:
            self._park(part, why)
        elif not single and (part.searched or part.bugs >= (SPLIT_TRIES if is_proven else self._tries)):
            self._halve(replace(part, searched=True), part.batch.attempt, forward=self._forward)
        else:
            self._wait(part, due)

    def _end_search(self, why: Deferral, tried: int, now: float) -> None:
        """End a search in which nothing got through: park what is given up, and put the other events together again."""
        self._failed_in_search, self._tries, self._forward = 0, 2 * self._tries, not self._forward
        for part in [part for part in self._parts if part.last]:
            self._parts.remove(part)
            self._park(part, why)
        failed = [part for part in self._parts if part.bugs]
        if not failed:
            return
        numbers = sorted(number for part in failed for number in part.numbers)
        attempt = max(part.batch.attempt for part in failed)
        self._parts = [part for part in self._parts if not part.bugs]
        whole = Part(self._batch, range(len(self._batch))).pick(numbers, attempt)
        self._wait(replace(whole, bugs=1, since=now, is_new=True), now + self._delay(tried))
