"""Decides when an alert reports what, from conditions, time and its memory. Pure.

A change is reported if it lasts: once when a thing has been wrong for `after`, again every `again` while it lasts, and
once when it has been well for `after`. A thing that begins FLAPS times within a window flaps. That is reported once,
and then nothing until the thing has stayed wrong, or well, for long enough.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from msgspec import Struct, field
from msgspec.structs import replace

from relay.api import AlertSettings
from relay.kinds import ALERTED, find_family
from relay.status import Condition

FLAPS: Final = 4
"""Beginnings or changes within `AlertRules.window` that count as flapping."""
WINDOW_S: Final = 3600.0
WINDOW_AFTERS: Final = 12.0
"""The window as a multiple of `after`, if that is more. So things that last for `after` each time are seen to flap."""
EARLY_S: Final = 60.0
"""Reports due within so long, or within a quarter of `after`, are sent along."""

What = Literal["began", "lasts", "flaps", "over"]


class Key(NamedTuple):
    """What is tracked as one thing."""

    subject: str
    family: str
    """A kind, or what several kinds share."""


def make_key(condition: Condition) -> Key:
    """Return the key under which a condition is tracked."""
    return Key(condition.subject, find_family(condition.kind))


class AlertRules(Struct, frozen=True):
    """What an alert reports, and when."""

    kinds: frozenset[str]
    only: tuple[str, ...]
    after: float
    again: float
    resolved: bool

    @classmethod
    def make(cls, settings: AlertSettings) -> "AlertRules":
        """Make the rules of an alert's settings."""
        kinds = frozenset(settings.on) or ALERTED.keys() - {"paused"}
        return cls(frozenset(kinds), settings.only, settings.after, settings.again, settings.resolved)

    @property
    def window(self) -> float:
        """Seconds within which FLAPS beginnings count as flapping."""
        return max(WINDOW_S, WINDOW_AFTERS * self.after)

    @property
    def calm(self) -> float:
        """Seconds for which a flapping thing must stay wrong, or well, to flap no longer."""
        return self.window / FLAPS

    def select(self, conditions: Iterable[Condition]) -> list[Condition]:
        """Return the conditions that the alert is about."""
        return [one for one in conditions if self.is_told(one)]

    def is_told(self, condition: Condition) -> bool:
        """Return whether the alert is about a condition."""
        return condition.kind in self.kinds and self.is_about(condition.subject)

    def is_about(self, subject: str) -> bool:
        """Return whether the alert is about a subject."""
        name = subject.partition(" ")[2]
        return not self.only or any(entry in (subject, name) or subject.startswith(f"{entry} ") for entry in self.only)


class Track(Struct, frozen=True):
    """The memory of one thing. It changes with the thing, and with each report."""

    kind: str
    wrong: bool
    began: float
    """When the trouble began. All times are Unix seconds."""
    turned: float
    """When it last began, changed its kind, or ended."""
    told: float | None = None
    """When it was last reported; None: never, or its end was reported."""
    said: Mapping[str, Any] = field(default_factory=dict)
    """What was reported, in short (`shorten`)."""
    turns: tuple[float, ...] = ()
    """When it began or changed its kind."""
    flaps: bool = False


class Due(Struct, frozen=True):
    """Something to report."""

    key: Key
    what: What
    before: Track
    """The memory so far; `before.said` is the last report."""
    condition: Condition | None
    """The present condition; None: it is over, or well at the moment."""


Memory = Mapping[Key, Track]


def take_step(
    memory: Memory, conditions: Sequence[Condition], now: float, rules: AlertRules, *, unsettled: Collection[Key] = ()
) -> tuple[Memory, list[Due]]:
    """Return the new memory after a check, and what is to be reported now.

    `unsettled`: what was wrong before a restart. Right after a start it is unknown whether that is over.
    """
    wrong: dict[Key, Condition] = {}
    known = {key for key, track in memory.items() if track.told is not None}
    for one in conditions:
        key = make_key(one)  # a known thing is told until it ends, whatever its kind is now
        if rules.is_told(one) or (key in known and rules.is_about(one.subject)):
            wrong.setdefault(key, one)
    turned = {
        key: track if key in unsettled else _track_well(track, now) for key, track in memory.items() if key not in wrong
    }
    turned |= {key: _track_wrong(memory.get(key), one, now) for key, one in wrong.items()}
    turned = {key: _limit_times(track, now, now - rules.window) for key, track in turned.items()}
    early = min(EARLY_S, rules.after / 4) if any(_choose_what(one, now, rules) for one in turned.values()) else 0.0
    left: dict[Key, Track] = {}
    due: list[Due] = []
    for key, track in turned.items():
        what = _choose_what(track, now + early, rules)
        if what and (what != "over" or rules.resolved):
            due.append(Due(key, what, track, wrong.get(key)))
        after = _mark_told(track, what, wrong.get(key), now) if what else track
        if after.wrong or after.told is not None or after.turns:
            left[key] = after
    return left, due


def _track_well(track: Track, now: float) -> Track:
    """Track a thing that is not wrong now."""
    return replace(track, wrong=False, turned=now) if track.wrong else track


def _track_wrong(track: Track | None, condition: Condition, now: float) -> Track:
    """Track a thing that is wrong now."""
    kind, since = condition.kind, min(condition.since, now)
    if track is None:
        return Track(kind, wrong=True, began=since, turned=since, turns=(since,))
    if not track.wrong:
        since = max(since, track.turned)
        return replace(track, kind=kind, wrong=True, began=since, turned=since, turns=(*track.turns, since))
    if kind != track.kind:
        return replace(track, kind=kind, turned=now, turns=(*track.turns, now))
    return track


def _limit_times(track: Track, now: float, until: float) -> Track:
    """Limit the times of a track to now, in case the clock was set back. Forget the turns up to `until`."""
    turns = tuple(one for one in track.turns if one > until)[-FLAPS:]
    if max(track.turned, track.told or 0.0) <= now:
        return track if turns == track.turns else replace(track, turns=turns)
    told = None if track.told is None else min(track.told, now)
    return replace(track, began=min(track.began, now), turned=min(track.turned, now), told=told, turns=turns)


def _choose_what(track: Track, now: float, rules: AlertRules) -> What | None:
    """Return what to report of one thing, if anything."""
    steady = now - track.turned
    again = track.told is not None and 0 < rules.again <= now - track.told
    if track.flaps:
        if steady >= rules.calm:
            return "lasts" if track.wrong else "over"
        return "flaps" if again else None
    if len(track.turns) >= FLAPS and steady < rules.calm:
        return "flaps"
    if not track.wrong:
        return "over" if track.told is not None and steady >= rules.after else None
    if track.told is None:
        return "began" if steady >= rules.after else None
    is_other = track.kind != track.said.get("kind") and steady >= rules.after
    return "lasts" if again or is_other else None


def _mark_told(track: Track, what: What, condition: Condition | None, now: float) -> Track:
    """Mark a thing as reported."""
    said = shorten(condition) if condition else track.said
    if what == "flaps":
        return replace(track, told=now, said=said, flaps=True)
    turns = () if track.flaps else track.turns  # it begins to be counted anew
    if what == "over":
        return replace(track, told=None, said={}, flaps=False, turns=turns)
    return replace(track, told=now, said=said, flaps=False, turns=turns)


SHORT: Final = ("pending", "parked", "expired", "erasures", "lost", "fill")
"""Facts whose changes are reported."""


def shorten(condition: Condition) -> dict[str, Any]:
    """Return what the next message is compared with."""
    facts = {name: condition.facts[name] for name in SHORT if condition.facts.get(name) is not None}
    reason = (condition.facts.get("last_error") or {}).get("reason")
    return {"kind": condition.kind, **facts, **({"reason": str(reason)[:200]} if reason else {})}


def describe_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield the changes between two messages (`shorten`) in words."""
    for name in SHORT:
        if name in before and name in now and before[name] != now[name]:
            yield f"{name} was {_format_number(before[name], name)}, is {_format_number(now[name], name)}"
    if "reason" in before and before["reason"] != now.get("reason"):
        yield f"the last error was {before['reason']}"


def _format_number(value: float, name: str) -> str:
    return f"{value:.0%}" if name == "fill" else f"{value:,}"
