"""When an alert tells what: an accelerated clock, tables, and stories that nobody has thought of."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import example, settings
from hypothesis import given as stories
from hypothesis import strategies as st
from msgspec.structs import replace

from relay.alerts.schedule import EARLY_S, FLAPS, AlertRules, Due, Key, Memory, describe_changes, shorten, take_step
from relay.api import AlertSettings
from relay.status.conditions import Condition

NOON = 1_800_000_000.0
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
LOOK = 5.0
RULES = AlertRules.make(AlertSettings(type="x"))
HEAP = Condition("failing", "connector heap", "heap: failing", NOON, {"pending": 12})


def told(
    wrong: Callable[[float], Iterable[Condition]], seconds: float, rules: AlertRules = RULES, look: float = LOOK
) -> list[tuple[float, list[Due]]]:
    """What is told while so much time passes, with the seconds since the beginning."""
    memory: Memory = {}
    found, passed = [], 0.0
    while passed <= seconds:
        memory, due = take_step(memory, [*wrong(passed)], NOON + passed, rules)
        if due:
            found.append((passed, due))
        passed += look
    return found


def short(found: list[tuple[float, list[Due]]]) -> list[tuple[float, list[tuple[str, str]]]]:
    return [(at, [(one.key.subject, one.what) for one in due]) for at, due in found]


def test_a_day_of_outage_is_told_at_once_each_interval_and_at_the_end() -> None:
    """At each look there were as many failed attempts as anybody likes: they make no difference."""

    def wrong(passed: float) -> list[Condition]:
        attempts = int(passed * 6)
        error = {"at": NOON + passed, "reason": "HTTP 503", "status": 503}
        return [replace(HEAP, facts={"pending": attempts, "last_error": error})] if passed < DAY else []

    rules = replace(RULES, again=6 * HOUR)
    assert short(told(wrong, 2 * DAY, rules)) == [
        (5 * MINUTE, [("connector heap", "began")]),
        (5 * MINUTE + 6 * HOUR, [("connector heap", "lasts")]),
        (5 * MINUTE + 12 * HOUR, [("connector heap", "lasts")]),
        (5 * MINUTE + 18 * HOUR, [("connector heap", "lasts")]),
        (DAY + 5 * MINUTE, [("connector heap", "over")]),
    ]


def test_flapping_every_minute_is_told_as_such_and_makes_no_storm() -> None:
    found = short(told(lambda passed: [HEAP] if int(passed / MINUTE) % 2 == 0 and passed < 6 * HOUR else [], DAY))
    (first, said), (last, over) = found
    assert said == [("connector heap", "flaps")]
    assert first < 15 * MINUTE
    assert over == [("connector heap", "over")]
    assert 6 * HOUR < last < 6 * HOUR + 15 * MINUTE


def test_flapping_that_lasts_for_after_each_time_is_seen_too() -> None:
    found = short(told(lambda passed: [HEAP] if int(passed / (6 * MINUTE)) % 2 == 0 else [], DAY))
    assert len(found) <= 10
    assert found[-1][1] == [("connector heap", "flaps")]


def test_flapping_that_ends_in_a_failure_is_told_to_last() -> None:
    found = told(lambda passed: [HEAP] if passed > HOUR or int(passed / MINUTE) % 2 == 0 else [], 3 * HOUR)
    assert [[one.what for one in due] for _, due in found] == [["flaps"], ["lasts"]]


def test_four_at_once_are_told_together() -> None:
    four = [
        HEAP,
        replace(HEAP, subject="connector archive", since=NOON + 20),
        Condition("journal_filling", "journal", "journal: 90%", NOON + 40, {"fill": 0.9}),
        Condition("source_refusing", "source braze", "braze: 401", NOON + 10, {}),
    ]
    found = told(lambda passed: [one for one in four if NOON + passed >= one.since], 30 * HOUR)
    assert [(at, len(due)) for at, due in found] == [(5 * MINUTE, 4), (DAY + 5 * MINUTE, 4)]


def test_what_is_told_early_has_lasted_for_most_of_the_time() -> None:
    late = replace(HEAP, subject="connector late", since=NOON + EARLY_S + LOOK)
    found = told(lambda passed: [HEAP, late] if passed >= EARLY_S + LOOK else [HEAP], HOUR)
    assert [(at, [one.key.subject for one in due]) for at, due in found] == [
        (5 * MINUTE, ["connector heap"]),
        (5 * MINUTE + EARLY_S + LOOK, ["connector late"]),
    ]


def test_another_kind_of_the_same_trouble_is_told_once_it_has_lasted() -> None:
    other = replace(HEAP, kind="unauthorized")
    found = told(lambda passed: [HEAP if passed < HOUR else other], 2 * HOUR)
    assert short(found) == [
        (5 * MINUTE, [("connector heap", "began")]),
        (HOUR + 5 * MINUTE, [("connector heap", "lasts")]),
    ]
    ((_, (due,)),) = found[1:]
    assert due.condition is not None
    assert (due.before.said["kind"], due.condition.kind) == ("failing", "unauthorized")


@pytest.mark.parametrize(
    ("given", "subjects"),
    [
        ({}, ["connector heap", "source heap", "journal of worker 1"]),
        ({"on": ("failing",)}, ["connector heap"]),
        ({"on": ("paused", "journal_full")}, ["journal of worker 1", "connector off"]),
        ({"only": ("heap",)}, ["connector heap", "source heap"]),
        ({"only": ("source heap", "journal")}, ["source heap", "journal of worker 1"]),
        ({"only": ("connector",)}, ["connector heap"]),
        ({"only": ("worker 1",)}, []),
    ],
)
def test_an_alert_is_about_what_its_settings_say(given: dict[str, Any], subjects: list[str]) -> None:
    rules = AlertRules.make(AlertSettings(type="x", after=0, **given))
    wrong = [
        HEAP,
        Condition("source_refusing", "source heap", "", NOON, {}),
        Condition("journal_full", "journal of worker 1", "", NOON, {}),
        Condition("paused", "connector off", "", NOON, {}),
    ]
    _, due = take_step({}, wrong, NOON, rules)
    assert [one.key.subject for one in due] == subjects


def test_settings_may_have_neither_reminders_nor_ends() -> None:
    rules = replace(RULES, again=0.0, resolved=False)
    found = told(lambda passed: [HEAP] if passed < 3 * DAY or passed > 3 * DAY + HOUR else [], 4 * DAY, rules, MINUTE)
    assert [[one.what for one in due] for _, due in found] == [["began"], ["began"]]


def test_a_restart_in_the_middle_repeats_nothing_and_ends_nothing() -> None:
    memory, due = take_step({}, [replace(HEAP, since=NOON - HOUR)], NOON, RULES)
    assert [one.what for one in due] == ["began"]
    for passed in (LOOK, 2 * LOOK):  # the lane has not tried yet
        memory, due = take_step(memory, [], NOON + passed, RULES, unsettled=[Key("connector heap", "state")])
        assert due == []
    for passed in range(15, 1000, 5):
        memory, due = take_step(memory, [replace(HEAP, since=NOON + 15)], NOON + passed, RULES)
        assert due == []
    ((key, track),) = memory.items()
    assert (key, track.began, len(track.turns)) == (Key("connector heap", "state"), NOON - HOUR, 0)


def test_a_clock_that_is_set_back_has_told_nothing_in_the_future() -> None:
    memory, _ = take_step({}, [replace(HEAP, since=NOON - HOUR)], NOON, RULES)
    memory, due = take_step(memory, [HEAP], NOON - 10 * DAY, RULES)
    assert due == []
    memory, due = take_step(memory, [HEAP], NOON - 9 * DAY, RULES)
    assert [one.what for one in due] == ["lasts"]


KINDS = st.sampled_from([None, None, "failing", "unauthorized", "behind"])


@settings(max_examples=30)
@stories(
    story=st.lists(
        st.tuples(KINDS, st.sampled_from([5.0, 30.0, 60.0, 299.0, 301.0, 400.0, 900.0, 4000.0])), max_size=40
    ),
    after=st.sampled_from([0.0, 60.0, 300.0, 3600.0]),
)
@example(story=[("failing", 60.0), (None, 60.0)] * 40, after=0.0)
def test_whatever_happens_an_hour_has_few_messages_and_the_end_is_told(
    story: list[tuple[str | None, float]], after: float
) -> None:
    rules = replace(RULES, after=after)
    memory: Memory = {}
    now, said = NOON, list[tuple[float, str]]()
    for kind, seconds in [*story, (None, 2 * rules.window)]:
        until = now + seconds
        while now < until:
            wrong = [] if kind is None else [replace(HEAP, kind=kind, since=now)]
            memory, due = take_step(memory, wrong, now, rules)
            said += [(now, one.what) for one in due]
            assert len(due) <= 1
            now += LOOK if seconds < HOUR else MINUTE
    for at, _ in said:
        assert sum(at <= other < at + rules.window for other, _ in said) <= 3 * FLAPS
    whats = [what for _, what in said]
    assert not whats or whats[-1] == "over"
    assert memory == {}
    for before, what in zip([None, *whats], whats, strict=False):
        assert (what == "over") <= (before not in (None, "over"))
        assert (what == "began") <= (before in (None, "over"))


def test_what_has_changed_is_said_in_words() -> None:
    before = shorten(replace(HEAP, facts={"pending": 1200, "last_error": {"reason": "HTTP 503"}}))
    now = shorten(replace(HEAP, facts={"pending": 45_000, "last_error": {"reason": "timed out"}}))
    assert [*describe_changes(before, now)] == ["pending was 1,200, is 45,000", "the last error was HTTP 503"]
    assert [*describe_changes({}, now)] == []
