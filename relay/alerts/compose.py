"""Composes the messages of an alert, with a bounded size. Pure."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from msgspec.structs import replace

from relay.alerts.schedule import FLAPS, AlertRules, Due, describe_changes, shorten
from relay.api import Alarm
from relay.api.internal import cut
from relay.kinds import find_family
from relay.status import BUG, FAR_S, Condition, Status, diagnose
from relay.words import REASON_CHARS, escape, format_span

ALARMS_AT_MOST: Final = 50
"""Alarms in one message."""


def make_alarms(due: Sequence[Due], status: Status, rules: AlertRules) -> list[Alarm]:
    """Make the alarms that are due, those of present trouble first."""
    how = describe_subjects(status)
    alarms: list[Alarm] = []
    for one in due:
        condition, track, subject = one.condition, one.before, one.key.subject
        # A subject that no status knows any more has not become well
        kind, _, name = subject.partition(" ")
        is_configurable = kind in ("connector", "source", "alert")
        removed = f"{name}: not configured any more, or switched off" if is_configurable else ""
        before = track.said.get("kind", track.kind)
        alarm = Alarm(
            kind=condition.kind if condition else before,
            subject=subject,
            state=one.what,
            sentence=clean_line(condition.sentence if condition else how.get(subject, removed)),
            since=track.turned if one.what == "over" else track.began,
            changed="; ".join(map(clean_line, _describe_changes(one, status.now, rules))),
            was=before if condition and track.said and before != condition.kind else "",
            facts=collect_facts(condition, status) if condition else {},
        )
        alarms.append(alarm)
    return sorted(alarms, key=lambda one: one.state == "over")


def make_present_alarms(conditions: Sequence[Condition], status: Status) -> list[Alarm]:
    """Make alarms of everything that is wrong."""
    return [
        Alarm(
            kind=one.kind,
            subject=one.subject,
            state="began",
            sentence=clean_line(one.sentence),
            since=one.since,
            facts=collect_facts(one, status),
        )
        for one in conditions
    ]


def _describe_changes(due: Due, now: float, rules: AlertRules) -> Iterator[str]:
    track = due.before
    if due.what == "over":
        yield f"it lasted for {format_span(track.turned - track.began)}"
    if due.what == "flaps" and not track.flaps:
        yield f"it has begun {FLAPS} times within {format_span(now - track.turns[0])}, and is not told each time"
    if due.what == "flaps":
        yield f"the next message comes when it has stayed wrong, or stayed well, for {format_span(rules.calm)}"
    if due.what == "lasts" and track.flaps:
        yield "it does not come and go any more"
    if due.condition and track.said:
        yield from describe_changes(track.said, shorten(due.condition))


def collect_facts(condition: Condition, status: Status) -> dict[str, Any]:
    """Return the facts of a condition, with the time at which the journal will be full."""
    facts = {name: _convert_plain(value) for name, value in condition.facts.items() if value is not None}
    full_in = status.journal.full_in
    fills_journal = condition.kind == "journal_filling" or find_family(condition.kind) == "state"
    if full_in is not None and full_in < FAR_S and fills_journal:
        facts["full_at"] = status.now + full_in
    return facts


ANSWER: Final = re.compile(rf"(HTTP \d{{3}}|{BUG}: \w+): .*", re.DOTALL)
"""The destination's answer, or a connector's exception, in the reason of a failure."""


def hide_answer(condition: Condition) -> Condition:
    """Return the condition without the destination's answer, which may quote events and name users."""
    error = condition.facts.get("last_error")
    if not error:
        return condition
    reason, short = error["reason"], ANSWER.sub(r"\1", error["reason"])
    facts = {**condition.facts, "last_error": {**error, "reason": short}}
    return replace(condition, sentence=condition.sentence.replace(reason, short), facts=facts)


def hide_answers(status: Status) -> Status:
    """Return the status without the answers of destinations."""
    lanes = [
        replace(lane, last_error=replace(error, reason=ANSWER.sub(r"\1", error.reason)))
        if (error := lane.last_error)
        else lane
        for lane in status.lanes
    ]
    return replace(status, lanes=lanes)


def _convert_plain(value: Any) -> Any:
    if isinstance(value, str):
        return clean_line(value)
    return {name: _convert_plain(inner) for name, inner in value.items()} if isinstance(value, dict) else value


def describe_subjects(status: Status) -> dict[str, str]:
    """Describe each subject in a sentence."""
    found = diagnose(status)
    said = {f"connector {one.name}": one.said for one in found.lanes}
    said |= {f"source {one.name}": one.said for one in found.sources}
    return said | {one.name: one.said for one in (found.journal, *found.workers, *found.alerts, *found.certificates)}


def clean_line(text: str) -> str:
    """Return a foreign text as one line of REASON_CHARS at most, without control characters."""
    return cut(escape(" ".join(text.split())), REASON_CHARS)
