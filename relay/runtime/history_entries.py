"""Makes the entries of the history from snapshots: one per change of state, and counts once a period. Pure.

What comes and goes all the time would push everything else out of the history: each thing gets MOST entries in PERIOD_S
at most. The next entry says how many were left out. The last state is always entered.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from math import inf
from typing import Any, Final

from msgspec import Struct, field

from relay.kinds import ENDS, find_family
from relay.runtime.condition_watch import ConditionSnapshot
from relay.status import Condition
from relay.store import AT_MOST, Entry, is_bound
from relay.words import format_count, format_span

PERIOD_S: Final = 3600.0
MOST: Final = 6
LONG_S: Final = 60.0
"""An entry whose count covers a longer time names that time."""
REFUSING_HOURS: Final = (1, 24, 72)
"""Hours after which a source that refuses everything is entered once more."""
TOLD_ELSEWHERE: Final = frozenset({"parked", "reload_refused"})
"""Conditions that others enter: as counts, by a reload, or by a pause."""
FACTS: Final = ("pending", "oldest_s", "last_error", "fill", "lost", "erasures", "deadline")
"""The facts of a condition that its entry keeps."""
COUNTED: Final = {
    "parked": "{} parked",
    "expired": "{} expired: the journal could not keep them any longer",
    "damaged": "{} lost: the journal cannot be read there",
    "erasure_requested": "{} asked for by events",
    "erased": "{} done that events asked for",
}
"""What is counted, in words."""
WELL: Final = {"damaged": "its damage is accepted or repaired", "doubt": "nothing is in doubt any more"}
"""How the end of a condition is said for a subject with several conditions."""
Key = tuple[str, str]
"""A subject, and the family of a kind."""


class Told(Struct):
    """What the history says of one thing, and its changes since."""

    state: tuple[str, int] | None = None
    """The state in the last entry: a kind, and for how many hours; None: all is well."""
    now: tuple[str, int] | None = None
    since: float = 0.0
    left_out: int = 0
    """Changes left out since that entry."""
    times: deque[float] = field(default_factory=lambda: deque(maxlen=MOST))
    """Times of the last entries."""


class PeriodCount(Struct):
    """A count since the last entry, and the time of that entry."""

    number: int = 0
    told: float = -PERIOD_S
    began: float | None = None
    """When the first of them was seen; None without any."""


class HistoryEntries(Struct):
    """Makes entries, and remembers what it has entered."""

    _told: dict[Key, Told] = field(default_factory=dict)
    _counters: dict[Key, int] = field(default_factory=dict)
    _counts: dict[Key, PeriodCount] = field(default_factory=dict)
    _starts: dict[int, float] = field(default_factory=dict)
    _is_bound: bool = False
    """Whether the number of damaged events is an upper bound."""

    def remember(self, entries: Sequence[Entry]) -> None:
        """Remember what the history says of sources that refuse everything, whose trouble outlasts a restart."""
        for one in entries:
            told = self._told.setdefault((one.subject, "source_refusing"), Told())
            told.state = told.now = (one.kind, one.about.get("hours", 0)) if one.kind == "source_refusing" else None
            told.since = one.about.get("since", 0.0)

    def find(self, look: ConditionSnapshot) -> list[Entry]:
        """Return the entries of a snapshot."""
        # Count what has risen since the last snapshot. Counters since the start began at 0.
        self._is_bound = any(one.is_damage and is_bound(one.said) for one in look.status.doubts)
        for lane in look.status.lanes:
            subject = f"connector {lane.connector}"
            self._count_rise("parked", subject, lane.parked, 0)
            for kind in ("expired", "damaged"):
                self._count_rise(kind, subject, lane.outcomes.get(kind, 0), lane.outcomes.get(kind, 0))
        for source in look.status.sources:
            self._count_rise("parked", f"source {source.source}", source.unreadable, 0)
        # Nobody else enters the end of a pause by time
        resumed = [
            Entry("resumed", one.subject, f"{_find_name(one.subject)} goes on: its pause is over", at=look.now)
            for one in look.ended
            if one.kind == "paused" and one.facts.get("until", inf) <= look.now
        ]
        return [*self._find_restarts(look), *resumed, *self._find_changes(look), *self.make_counts(look.now)]

    def _find_changes(self, look: ConditionSnapshot) -> Iterator[Entry]:
        now = look.now
        found = {(one.subject, find_family(one.kind)): one for one in look.conditions if one.kind not in TOLD_ELSEWHERE}
        present = {f"connector {lane.connector}" for lane in look.status.lanes}
        present |= {f"source {source.source}" for source in look.status.sources}
        for key in [*dict.fromkeys((*self._told, *found))]:
            subject, condition = key[0], found.get(key)
            if condition is None and subject.startswith(("connector ", "source ")) and subject not in present:
                continue  # a reload has removed it, or makes it anew: it is not well again
            told = self._told.setdefault(key, Told())
            state: tuple[str, int] | None = None
            if condition:
                marks = REFUSING_HOURS if condition.kind == "source_refusing" else ()
                passed = (hours for hours in marks if now - condition.since >= hours * 3600)
                state = condition.kind, max(passed, default=0)
            if state and state[0] == "paused":  # what it was before shows when it goes on
                told.now = told.state
                continue
            if state != told.now:
                told.now, told.left_out = state, told.left_out + 1
            if told.now == told.state or (len(told.times) == MOST and now - told.times[0] < PERIOD_S):
                continue
            yield _make_change(subject, told, condition, now)
            if told.state is None or condition is None:  # else it is still the same trouble, of another kind
                told.since = condition.since if condition else 0.0
            told.state, told.left_out = state, 0
            told.times.append(now)

    def _count_rise(self, kind: str, subject: str, value: int, first: int) -> None:
        before = self._counters.get((subject, kind), first)
        self._counters[subject, kind] = value
        if value > before:
            self.count(kind, subject, value - before)

    def count(self, kind: str, subject: str, number: int) -> None:
        """Count further events of a kind."""
        if number:
            self._counts.setdefault((subject, kind), PeriodCount()).number += number

    def make_counts(self, now: float, *, all_of_them: bool = False) -> Iterator[Entry]:
        """Yield entries of counts whose last entry is PERIOD_S old; `all_of_them`: however old it is."""
        for (subject, kind), count in self._counts.items():
            if count.number and count.began is None:
                count.began = now
            if count.number and (all_of_them or now - count.told >= PERIOD_S):
                noun = "erasure" if subject == "relay" else "event"
                most = AT_MOST if kind == "damaged" and self._is_bound else ""
                said = COUNTED[kind].format(most + format_count(count.number, noun))
                lasted = now - (now if count.began is None else count.began)
                during = f" (in the last {format_span(lasted)})" if lasted >= LONG_S else ""
                yield Entry(
                    kind, subject, f"{_find_name(subject)}: {said}{during}", about={"number": count.number}, at=now
                )
                count.number, count.told, count.began = 0, now, None

    def _find_restarts(self, look: ConditionSnapshot) -> Iterator[Entry]:
        """Yield entries of workers that have died and come back between two snapshots."""
        for worker in look.status.workers:
            if worker.started is None:
                continue
            before = self._starts.get(worker.worker)
            self._starts[worker.worker] = worker.started
            subject = f"worker {worker.worker}"
            told = self._told.get((subject, "worker_lost"))
            if before not in (None, worker.started) and not (told and told.now):
                said = f"{subject} has died, and was started again: the log says why"
                yield Entry("worker_lost", subject, said, at=look.now)
                yield Entry("worker_recovered", subject, f"{subject} runs again", at=look.now)


def _make_change(subject: str, told: Told, condition: Condition | None, now: float) -> Entry:
    """Make the entry of a condition that began, changed or ended. `condition`: None at its end."""
    about: dict[str, Any] = {}
    left_out = told.left_out - 1
    more = f"; {format_count(left_out, 'change')} before that are left out" if left_out > 0 else ""
    if left_out > 0:
        about["left_out"] = left_out
    if told.now and condition:
        about |= {name: condition.facts[name] for name in FACTS if condition.facts.get(name) is not None}
        about |= {"since": condition.since} | ({"hours": told.now[1]} if told.now[1] else {})
        return Entry(condition.kind, subject, condition.sentence + more, about=about, at=now)
    kind = told.state[0] if told.state else ""
    about |= {"was": kind, "since": told.since, "lasted_s": round(now - told.since, 1)}
    sentence = f"{_find_name(subject)}: {WELL.get(kind, 'well again')}, after {format_span(now - told.since)}{more}"
    return Entry(ENDS.get(kind, "recovered"), subject, sentence, about=about, at=now)


def _find_name(subject: str) -> str:
    kind, _, name = subject.partition(" ")
    return name if kind in ("connector", "source") else subject
