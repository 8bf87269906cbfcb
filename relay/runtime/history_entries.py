"""Makes the entries of the history from snapshots: one per change of state, and counts once a period. Pure.

What comes and goes all the time would push everything else out of the history: each thing gets MOST entries in PERIOD_S
at most. The next entry says how many were left out. The last state is always entered.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final

from relay.kinds import ENDS, family_of
from relay.runtime.condition_watch import ConditionSnapshot
from relay.state import AT_MOST, Entry, is_bound
from relay.status import Condition, Status
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


@dataclass(slots=True)
class Told:
    """What the history says of one thing, and its changes since."""

    state: tuple[str, int] | None = None
    """The state in the last entry: a kind, and for how many hours; None: all is well."""
    now: tuple[str, int] | None = None
    since: float = 0.0
    left_out: int = 0
    """Changes left out since that entry."""
    times: deque[float] = field(default_factory=lambda: deque(maxlen=MOST))
    """Times of the last entries."""


@dataclass(slots=True)
class PeriodCount:
    """A count since the last entry, and the time of that entry."""

    number: int = 0
    told: float = -PERIOD_S
    began: float | None = None
    """When the first of them was seen; None without any."""


@dataclass(slots=True)
class HistoryEntries:
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
        return [
            *self._find_restarts(look),
            *_find_ended_pauses(look),
            *self._find_changes(look),
            *self.make_counts(look.now),
        ]

    def _find_changes(self, look: ConditionSnapshot) -> Iterator[Entry]:
        found = {(one.subject, family_of(one.kind)): one for one in look.conditions if one.kind not in TOLD_ELSEWHERE}
        absent = [key for key in self._told if key not in found and not _is_there(key[0], look.status)]
        for key in [*dict.fromkeys((*self._told, *found))]:
            if key in absent:  # it is not well again
                continue
            condition, told = found.get(key), self._told.setdefault(key, Told())
            state = None if condition is None else _find_state(condition, look.now)
            if state and state[0] == "paused":  # what it was before shows when it goes on
                told.now = told.state
                continue
            if state != told.now:
                told.now, told.left_out = state, told.left_out + 1
            if told.now == told.state or (len(told.times) == MOST and look.now - told.times[0] < PERIOD_S):
                continue
            now = look.now
            subject, _ = key
            about: dict[str, Any] = {}
            left_out = told.left_out - 1
            more = f"; {format_count(left_out, 'change')} before that are left out" if left_out > 0 else ""
            if left_out > 0:
                about["left_out"] = left_out
            if told.now and condition:
                about |= {name: condition.facts[name] for name in FACTS if condition.facts.get(name) is not None}
                about |= {"since": condition.since} | ({"hours": told.now[1]} if told.now[1] else {})
                make_entry = Entry(condition.kind, subject, condition.sentence + more, about=about, at=now)
            else:
                kind = told.state[0] if told.state else ""
                lasted = format_span(now - told.since)
                about |= {"was": kind, "since": told.since, "lasted_s": round(now - told.since, 1)}
                sentence = f"{_find_name(subject)}: {WELL.get(kind, 'well again')}, after {lasted}{more}"
                make_entry = Entry(ENDS.get(kind, "recovered"), subject, sentence, about=about, at=now)
            yield make_entry
            if told.state is None or condition is None:  # else it is still the same trouble, of another kind
                told.since = condition.since if condition else 0.0
            told.state, told.left_out = state, 0
            told.times.append(look.now)

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


def _find_ended_pauses(look: ConditionSnapshot) -> Iterator[Entry]:
    """Yield entries of pauses that have ended by themselves. Nobody else enters those."""
    for one in look.ended:
        if one.kind == "paused" and one.facts.get("until", inf) <= look.now:
            yield Entry("resumed", one.subject, f"{_find_name(one.subject)} goes on: its pause is over", at=look.now)


def _is_there(subject: str, status: Status) -> bool:
    """Return whether the subject still exists. A reload may have removed it, or may be making it anew."""
    kind, _, name = subject.partition(" ")
    if kind == "connector":
        return any(lane.connector == name for lane in status.lanes)
    return kind != "source" or any(source.source == name for source in status.sources)


def _find_state(one: Condition, now: float) -> tuple[str, int]:
    marks = REFUSING_HOURS if one.kind == "source_refusing" else ()
    return one.kind, max((hours for hours in marks if now - one.since >= hours * 3600), default=0)


def _find_name(subject: str) -> str:
    kind, _, name = subject.partition(" ")
    return name if kind in ("connector", "source") else subject
