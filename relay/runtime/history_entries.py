"""What a look at relay adds to its history: one entry for each change of state, and counts once a period. Pure.

What comes and goes all the time would push everything else out of the history: of one thing at most MOST changes are
told in PERIOD_S. The next entry says how many were left out, and the state that it has come to is told in the end.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final

from relay.kinds import ENDS, family_of
from relay.runtime.condition_watch import ConditionSnapshot
from relay.state import AT_MOST, Entry, is_bound
from relay.status import Condition, Status, span
from relay.words import counted

PERIOD_S: Final = 3600.0
MOST: Final = 6
LONG_S: Final = 60.0
"""An entry that counts what has come in a longer time says how long that was."""
REFUSING_HOURS: Final = (1, 24, 72)
"""After how many hours a source that refuses everything is told once more."""
TOLD_ELSEWHERE: Final = frozenset({"parked", "reload_refused"})
"""The first are counted, the second whoever reloads tells; so does whoever pauses a connector."""
FACTS: Final = ("pending", "oldest_s", "last_error", "fill", "lost", "erasures", "deadline")
"""Of a condition those that its entry keeps."""
COUNTED: Final = {
    "parked": "{} parked",
    "expired": "{} expired: the journal could not keep them any longer",
    "damaged": "{} lost: the journal cannot be read there",
    "erasure_requested": "{} asked for by events",
    "erased": "{} done that events asked for",
}
"""What is counted, in words."""
WELL: Final = {"damaged": "its damage is accepted or repaired", "doubt": "nothing is in doubt any more"}
"""How the end of a condition is told, where a subject has several at a time."""
Key = tuple[str, str]
"""A subject, and the family of a kind."""


@dataclass(slots=True)
class Told:
    """What the history says of one thing, and what has become of it since."""

    state: tuple[str, int] | None = None
    """As the last entry says: a kind, and for how many hours; None: all is well."""
    now: tuple[str, int] | None = None
    since: float = 0.0
    left_out: int = 0
    """Changes since that entry that are not told."""
    times: deque[float] = field(default_factory=lambda: deque(maxlen=MOST))
    """When the last entries were."""


@dataclass(slots=True)
class PeriodCount:
    """How many since the last entry, and when that was."""

    number: int = 0
    told: float = -PERIOD_S
    began: float | None = None
    """When the first of them was seen; None: there is none yet."""


@dataclass(slots=True)
class HistoryEntries:
    """Knows what it has told."""

    _told: dict[Key, Told] = field(default_factory=dict)
    _counters: dict[Key, int] = field(default_factory=dict)
    _counts: dict[Key, PeriodCount] = field(default_factory=dict)
    _starts: dict[int, float] = field(default_factory=dict)
    _is_bound: bool = False
    """Whether the number of damaged events is a bound."""

    def remember(self, entries: Sequence[Entry]) -> None:
        """Know what the history says of sources that refuse everything, whose trouble outlasts a restart."""
        for one in entries:
            told = self._told.setdefault((one.subject, "source_refusing"), Told())
            told.state = told.now = (one.kind, one.about.get("hours", 0)) if one.kind == "source_refusing" else None
            told.since = one.about.get("since", 0.0)

    def find(self, look: ConditionSnapshot) -> list[Entry]:
        """What this look adds."""
        self._count(look)
        return [*self._workers(look), *_over(look), *self._changes(look), *self.counts(look.now)]

    def _changes(self, look: ConditionSnapshot) -> Iterator[Entry]:
        found = {_key(one): one for one in look.conditions if one.kind not in TOLD_ELSEWHERE}
        absent = [key for key in self._told if key not in found and not _is_there(key[0], look.status)]
        for key in [*dict.fromkeys((*self._told, *found))]:
            if key in absent:  # it is not well again
                continue
            condition, told = found.get(key), self._told.setdefault(key, Told())
            state = None if condition is None else _state(condition, look.now)
            if state and state[0] == "paused":  # what it was before shows when it goes on
                told.now = told.state
                continue
            if state != told.now:
                told.now, told.left_out = state, told.left_out + 1
            if told.now == told.state or (len(told.times) == MOST and look.now - told.times[0] < PERIOD_S):
                continue
            yield _entry(key, condition, told, look.now)
            if told.state is None or condition is None:  # else it is still the same trouble, of another kind
                told.since = condition.since if condition else 0.0
            told.state, told.left_out = state, 0
            told.times.append(look.now)

    def _count(self, look: ConditionSnapshot) -> None:
        """Count what has risen since the last look; what is counted since the start began at 0."""
        self._is_bound = any(one.is_damage and is_bound(one.said) for one in look.status.doubts)
        for lane in look.status.lanes:
            subject = f"connector {lane.connector}"
            self._rise("parked", subject, lane.parked, 0)
            for kind in ("expired", "damaged"):
                self._rise(kind, subject, lane.outcomes.get(kind, 0), lane.outcomes.get(kind, 0))
        for source in look.status.sources:
            self._rise("parked", f"source {source.source}", source.unreadable, 0)

    def _rise(self, kind: str, subject: str, value: int, first: int) -> None:
        before = self._counters.get((subject, kind), first)
        self._counters[subject, kind] = value
        if value > before:
            self.count(kind, subject, value - before)

    def count(self, kind: str, subject: str, number: int) -> None:
        """Note that so many more have come."""
        if number:
            self._counts.setdefault((subject, kind), PeriodCount()).number += number

    def counts(self, now: float, *, all_of_them: bool = False) -> Iterator[Entry]:
        """What was counted, if the last entry on it is PERIOD_S old; `all_of_them`: however old that is."""
        for (subject, kind), count in self._counts.items():
            if count.number and count.began is None:
                count.began = now
            if count.number and (all_of_them or now - count.told >= PERIOD_S):
                noun = "erasure" if subject == "relay" else "event"
                most = AT_MOST if kind == "damaged" and self._is_bound else ""
                said = COUNTED[kind].format(most + counted(count.number, noun))
                lasted = now - (now if count.began is None else count.began)
                during = f" (in the last {span(lasted)})" if lasted >= LONG_S else ""
                yield Entry(kind, subject, f"{_name(subject)}: {said}{during}", about={"number": count.number}, at=now)
                count.number, count.told, count.began = 0, now, None

    def _workers(self, look: ConditionSnapshot) -> Iterator[Entry]:
        """Workers that have died, and were back before anybody looked."""
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


def _over(look: ConditionSnapshot) -> Iterator[Entry]:
    """Pauses that have ended by themselves: nobody else tells that."""
    for one in look.ended:
        if one.kind == "paused" and one.facts.get("until", inf) <= look.now:
            yield Entry("resumed", one.subject, f"{_name(one.subject)} goes on: its pause is over", at=look.now)


def _is_there(subject: str, status: Status) -> bool:
    """Whether nothing was removed by a reload, or is just being made anew by one."""
    kind, _, name = subject.partition(" ")
    if kind == "connector":
        return any(lane.connector == name for lane in status.lanes)
    return kind != "source" or any(source.source == name for source in status.sources)


def _key(one: Condition) -> Key:
    return one.subject, family_of(one.kind)


def _state(one: Condition, now: float) -> tuple[str, int]:
    marks = REFUSING_HOURS if one.kind == "source_refusing" else ()
    return one.kind, max((hours for hours in marks if now - one.since >= hours * 3600), default=0)


def _entry(key: Key, condition: Condition | None, told: Told, now: float) -> Entry:
    subject, _ = key
    about: dict[str, Any] = {}
    left_out = told.left_out - 1
    more = f"; {counted(left_out, 'change')} before that are left out" if left_out > 0 else ""
    if left_out > 0:
        about["left_out"] = left_out
    if told.now and condition:
        about |= {name: condition.facts[name] for name in FACTS if condition.facts.get(name) is not None}
        about |= {"since": condition.since} | ({"hours": told.now[1]} if told.now[1] else {})
        return Entry(condition.kind, subject, condition.sentence + more, about=about, at=now)
    kind = told.state[0] if told.state else ""
    lasted = span(now - told.since)
    about |= {"was": kind, "since": told.since, "lasted_s": round(now - told.since, 1)}
    sentence = f"{_name(subject)}: {WELL.get(kind, 'well again')}, after {lasted}{more}"
    return Entry(ENDS.get(kind, "recovered"), subject, sentence, about=about, at=now)


def _name(subject: str) -> str:
    kind, _, name = subject.partition(" ")
    return name if kind in ("connector", "source") else subject
