"""What an alert says, in messages of a bounded size. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from relay.alerts.memory import FLAPS, AlertRules, Due, changes, short_of
from relay.api import Alarm
from relay.api.internal import cut
from relay.kinds import family_of
from relay.status import BUG, FAR_S, Condition, Status, diagnose, span
from relay.words import REASON_CHARS, escape

MOST: Final = 50
"""Alarms in one message."""


def alarms_of(due: Sequence[Due], status: Status, rules: AlertRules) -> list[Alarm]:
    """What is to be told, what is wrong first."""
    how = sentences(status)
    alarms = [_alarm(one, how, status, rules) for one in due]
    return sorted(alarms, key=lambda one: one.state == "over")


def alarms_now(conditions: Sequence[Condition], status: Status) -> list[Alarm]:
    """All that is wrong, as if it were told now."""
    return [
        Alarm(
            kind=one.kind,
            subject=one.subject,
            state="began",
            sentence=one_line(one.sentence),
            since=one.since,
            facts=facts_of(one, status),
        )
        for one in conditions
    ]


def _alarm(due: Due, how: Mapping[str, str], status: Status, rules: AlertRules) -> Alarm:
    track, now = due.before, status.now
    sentence = due.condition.sentence if due.condition else how.get(due.key.subject, _gone(due.key.subject))
    before = track.said.get("kind", track.kind)
    kind = due.condition.kind if due.condition else before
    return Alarm(
        kind=kind,
        subject=due.key.subject,
        state=due.what,
        sentence=one_line(sentence),
        since=track.turned if due.what == "over" else track.began,
        changed="; ".join(map(one_line, _changes(due, now, rules))),
        was="" if before == kind or not track.said else before,
        facts=facts_of(due.condition, status) if due.condition else {},
    )


def _gone(subject: str) -> str:
    """What is said of something that no status knows any more: it has not become well."""
    kind, _, name = subject.partition(" ")
    return f"{name}: not configured any more, or switched off" if kind in ("connector", "source", "alert") else ""


def _changes(due: Due, now: float, rules: AlertRules) -> Iterator[str]:
    track = due.before
    if due.what == "over":
        yield f"it lasted for {span(track.turned - track.began)}"
    if due.what == "flaps" and not track.flaps:
        yield f"it has begun {FLAPS} times within {span(now - track.turns[0])}, and is not told each time"
    if due.what == "flaps":
        yield f"the next message comes when it has stayed wrong, or stayed well, for {span(rules.calm)}"
    if due.what == "lasts" and track.flaps:
        yield "it does not come and go any more"
    if due.condition and track.said:
        yield from changes(track.said, short_of(due.condition))


def facts_of(condition: Condition, status: Status) -> dict[str, Any]:
    """What is known of a condition, and when the journal will be full."""
    facts = {name: _plain(value) for name, value in condition.facts.items() if value is not None}
    full_in = status.journal.full_in
    if full_in is not None and full_in < FAR_S and _fills(condition.kind):
        facts["full_at"] = status.now + full_in
    return facts


def _fills(kind: str) -> bool:
    """Whether the journal fills up while this lasts."""
    return kind == "journal_filling" or family_of(kind) == "state"


ANSWER: Final = re.compile(rf"(HTTP \d{{3}}|{BUG}: \w+): .*", re.DOTALL)
"""What a destination has answered, or an exception of a connector says, in the reason of a failure."""


def without_answer(condition: Condition) -> Condition:
    """The same without the text of a destination's answer, or of an exception: that may quote events and name users."""
    error = condition.facts.get("last_error")
    if not error:
        return condition
    reason, short = error["reason"], ANSWER.sub(r"\1", error["reason"])
    facts = {**condition.facts, "last_error": {**error, "reason": short}}
    return replace(condition, sentence=condition.sentence.replace(reason, short), facts=facts)


def without_answers(status: Status) -> Status:
    """The same without the texts of destinations' answers."""
    lanes = [
        replace(lane, last_error=replace(error, reason=ANSWER.sub(r"\1", error.reason)))
        if (error := lane.last_error)
        else lane
        for lane in status.lanes
    ]
    return replace(status, lanes=lanes)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return one_line(value)
    return {name: _plain(inner) for name, inner in value.items()} if isinstance(value, dict) else value


def sentences(status: Status) -> dict[str, str]:
    """How everything is that can be told of, by its subject."""
    found = diagnose(status)
    said = {f"connector {one.name}": one.said for one in found.lanes}
    said |= {f"source {one.name}": one.said for one in found.sources}
    return said | {one.name: one.said for one in (found.journal, *found.workers, *found.alerts, *found.certificates)}


def one_line(text: str) -> str:
    """A text that may come from outside, in one line of REASON_CHARS at most, without control characters."""
    return cut(escape(" ".join(text.split())), REASON_CHARS)
