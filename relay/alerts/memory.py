"""When an alert tells what: conditions, the time and what it remembers in; what is to be told out. Pure.

What is told of one thing is a change that lasted. It is told once when it has been wrong for `after`, again every
`again` while it lasts, and once when it has been well for `after`. What begins FLAPS times within a while comes and
goes: that is told once, and then nothing more until it has stayed wrong, or well, for long enough.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, NamedTuple

from relay.api import AlertSettings
from relay.kinds import ALERTED, family_of
from relay.status import Condition

FLAPS: Final = 4
"""Times that something begins or changes within `Rules.window`."""
WINDOW_S: Final = 3600.0
WINDOW_AFTERS: Final = 12.0
"""The window in terms of `after`, if that is more: what lasts for `after` each time is seen to flap, too."""
EARLY_S: Final = 60.0
"""What would be told within so long, or a quarter of `after`, comes along with what is told now."""

What = Literal["began", "lasts", "flaps", "over"]


class Key(NamedTuple):
    """What is followed as one thing."""

    subject: str
    family: str
    """A kind, or what several kinds have in common."""


def key_of(condition: Condition) -> Key:
    """As what a condition is followed."""
    return Key(condition.subject, family_of(condition.kind))


@dataclass(frozen=True, slots=True)
class AlertRules:
    """What an alert tells, and when."""

    kinds: frozenset[str]
    only: tuple[str, ...]
    after: float
    again: float
    resolved: bool

    @classmethod
    def of(cls, settings: AlertSettings) -> "AlertRules":
        """Those of an alert's settings."""
        kinds = frozenset(settings.on) or ALERTED.keys() - {"paused"}
        return cls(frozenset(kinds), settings.only, settings.after, settings.again, settings.resolved)

    @property
    def window(self) -> float:
        """Seconds within which FLAPS times are too many."""
        return max(WINDOW_S, WINDOW_AFTERS * self.after)

    @property
    def calm(self) -> float:
        """Seconds for which something must stay wrong, or well, to flap no longer."""
        return self.window / FLAPS

    def select(self, conditions: Iterable[Condition]) -> list[Condition]:
        """Those that the alert is about."""
        return [one for one in conditions if self.is_told(one)]

    def is_told(self, condition: Condition) -> bool:
        """Whether the alert is about a condition."""
        return condition.kind in self.kinds and self.is_about(condition.subject)

    def is_about(self, subject: str) -> bool:
        """Whether the alert is about a subject."""
        name = subject.partition(" ")[2]
        return not self.only or any(entry in (subject, name) or subject.startswith(f"{entry} ") for entry in self.only)


@dataclass(frozen=True, slots=True)
class Track:
    """What is remembered of one thing. It changes when that turns, and when it is told."""

    kind: str
    wrong: bool
    began: float
    """When the trouble began, in Unix seconds, as all times here."""
    turned: float
    """When it began, became another kind, or ended last."""
    told: float | None = None
    """When it was told last; None: nobody knows of it, or all know that it is over."""
    said: Mapping[str, Any] = field(default_factory=dict)
    """What was told then, in short (`short_of`)."""
    turns: tuple[float, ...] = ()
    """When it began or became another kind."""
    flaps: bool = False


@dataclass(frozen=True, slots=True)
class Due:
    """Something that is to be told."""

    key: Key
    what: What
    before: Track
    """What was remembered until now; `before.said` is what was told last."""
    condition: Condition | None
    """As it is now; None: it is over, or well at the moment."""


Memory = Mapping[Key, Track]


def step(
    memory: Memory, conditions: Sequence[Condition], now: float, rules: AlertRules, *, unsettled: Collection[Key] = ()
) -> tuple[Memory, list[Due]]:
    """What is remembered after a look at what is wrong, and what is to be told now.

    `unsettled`: what was wrong before a restart. Right after that it cannot be told yet whether it is well."""
    wrong: dict[Key, Condition] = {}
    known = {key for key, track in memory.items() if track.told is not None}
    for one in conditions:
        if rules.is_told(one) or (key_of(one) in known and rules.is_about(one.subject)):  # what was told has not ended
            wrong.setdefault(key_of(one), one)
    turned = {
        key: track if key in unsettled else _well(track, now) for key, track in memory.items() if key not in wrong
    }
    turned |= {key: _wrong(memory.get(key), one, now) for key, one in wrong.items()}
    turned = {key: _forget_turns(_keep_to(track, now), now - rules.window) for key, track in turned.items()}
    early = min(EARLY_S, rules.after / 4) if any(_what(one, now, rules) for one in turned.values()) else 0.0
    left: dict[Key, Track] = {}
    due: list[Due] = []
    for key, track in turned.items():
        what = _what(track, now + early, rules)
        if what and (what != "over" or rules.resolved):
            due.append(Due(key, what, track, wrong.get(key)))
        after = _tell(track, what, wrong.get(key), now) if what else track
        if after.wrong or after.told is not None or after.turns:
            left[key] = after
    return left, due


def _well(track: Track, now: float) -> Track:
    """What is remembered of one thing that is not wrong now."""
    return replace(track, wrong=False, turned=now) if track.wrong else track


def _wrong(track: Track | None, condition: Condition, now: float) -> Track:
    """What is remembered of one thing that is wrong now."""
    kind, since = condition.kind, min(condition.since, now)
    if track is None:
        return Track(kind, wrong=True, began=since, turned=since, turns=(since,))
    if not track.wrong:
        since = max(since, track.turned)
        return replace(track, kind=kind, wrong=True, began=since, turned=since, turns=(*track.turns, since))
    if kind != track.kind:
        return replace(track, kind=kind, turned=now, turns=(*track.turns, now))
    return track


def _keep_to(track: Track, now: float) -> Track:
    """The same if the clock was set back meanwhile: nothing has happened in the future."""
    if max(track.turned, track.told or 0.0) <= now:
        return track
    told = None if track.told is None else min(track.told, now)
    return replace(track, began=min(track.began, now), turned=min(track.turned, now), told=told)


def _forget_turns(track: Track, until: float) -> Track:
    turns = tuple(one for one in track.turns if one > until)[-FLAPS:]
    return track if turns == track.turns else replace(track, turns=turns)


def _what(track: Track, now: float, rules: AlertRules) -> What | None:
    """What is to be told of one thing at a time."""
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


def _tell(track: Track, what: What, condition: Condition | None, now: float) -> Track:
    """What is remembered once it is told."""
    said = short_of(condition) if condition else track.said
    if what == "flaps":
        return replace(track, told=now, said=said, flaps=True)
    turns = () if track.flaps else track.turns  # it begins to be counted anew
    if what == "over":
        return replace(track, told=None, said={}, flaps=False, turns=turns)
    return replace(track, told=now, said=said, flaps=False, turns=turns)


SHORT: Final = ("pending", "parked", "expired", "erasures", "lost", "fill")
"""Facts of which it is told what has become of them."""


def short_of(condition: Condition) -> dict[str, Any]:
    """What the next message compares with."""
    facts = {name: condition.facts[name] for name in SHORT if condition.facts.get(name) is not None}
    reason = (condition.facts.get("last_error") or {}).get("reason")
    return {"kind": condition.kind, **facts, **({"reason": str(reason)[:200]} if reason else {})}


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What has changed between two messages (`short_of`), in words."""
    for name in SHORT:
        if name in before and name in now and before[name] != now[name]:
            yield f"{name} was {_number(before[name], name)}, is {_number(now[name], name)}"
    if "reason" in before and before["reason"] != now.get("reason"):
        yield f"the last error was {before['reason']}"


def _number(value: float, name: str) -> str:
    return f"{value:.0%}" if name == "fill" else f"{value:,}"
