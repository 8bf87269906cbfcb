"""The pure decisions of a lane: when to try again, how fast, what an answer means, how far the cursor is."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.api import DELIVERED, Reject, Retry, Skipped, Unauthorized, retry_after
from relay.deliver.rate_limit import RateLimit
from relay.deliver.result import Deferral, DestinationRefusal, Verdict, judge
from relay.deliver.retry import BUG_GAP_S, BUGS, FAILURES, MAX_RETRY_AFTER_S, PROBE_WAIT_S, Breaker, retry_delay
from relay.state.cursor import Counts, Cursor, find_unsettled


def test_retries_back_off_exponentially_with_full_jitter_up_to_the_longest() -> None:
    chance = random.Random(1)
    for attempt, ceiling in [(1, 1.0), (2, 2.0), (5, 16.0), (9, 60.0), (5000, 60.0)]:
        delays = [retry_delay(attempt, first=1, longest=60, after=None, chance=chance) for _ in range(500)]
        assert 0 <= min(delays) < ceiling * 0.1
        assert ceiling * 0.9 < max(delays) <= ceiling


@pytest.mark.parametrize(("after", "least"), [(30.0, 30.0), (1e9, MAX_RETRY_AFTER_S), (0.0, 0.0)])
def test_a_retry_never_comes_before_retry_after(after: float, least: float) -> None:
    assert retry_delay(1, first=1, longest=5, after=after, chance=random.Random(1)) >= least


NOW = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("Sun, 22 Nov 2026 10:01:30 GMT", 90),
        ("Sun, 22 Nov 2026 09:00:00 GMT", 0),
        (None, None),
        ("soon", None),
        ("-5", None),
    ],
)
def test_retry_after_in_both_forms(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, NOW) == seconds


def test_the_rate_limit_holds_on_average_with_a_burst_of_one_second() -> None:
    pace = RateLimit(100)
    now = 1000.0
    waits = [pace.delay(50, now) for _ in range(6)]
    assert waits == [0, 0, 0, 0.5, 1.0, 1.5]
    assert pace.delay(50, now + 100) == 0
    assert RateLimit(0).delay(10**9, now) == 0


def test_what_is_given_back_shortens_the_wait_of_those_who_come_later() -> None:
    pace, now = RateLimit(100), 1000.0
    assert [pace.delay(100, now) for _ in range(3)] == [0, 0, 1.0]
    pace.give_back(100)
    assert pace.given_back == 1.0
    assert pace.delay(100, now) == 1.0
    pace.give_back(10**6)
    assert [pace.delay(100, now) for _ in range(3)] == [0, 0, 1.0], "no more than a second's burst comes of it"


@pytest.mark.parametrize(
    ("answer", "unsent", "answered"),
    [
        (None, 0, True),
        ([Skipped("no use"), DELIVERED, Reject("no identity")], 2, True),
        ([Skipped("no use")] * 3, 3, False),
        ([Reject("no identity")] * 3, 3, False),
        (Reject("no identity"), 3, False),
        (Reject("HTTP 400", status=400), 0, True),
        ([Reject("HTTP 400", status=400), Retry("busy"), Skipped("no use")], 1, True),
        ([Reject("no identity"), Retry("busy"), Retry("busy")], 1, False),
        (Retry("busy"), 0, False),
        (TimeoutError(), 0, False),
    ],
)
def test_outcomes_without_a_request_are_no_answer_of_the_destination(answer: Any, unsent: int, answered: bool) -> None:
    verdict = judge(3, answer)
    assert (verdict.unsent, verdict.answered) == (unsent, answered)


ALL = range(3)


def deferred(reason: str, numbers: Sequence[int] = ALL, **more: Any) -> Verdict:
    """All is to be tried again, or these events."""
    return Verdict(deferred=[Deferral(numbers, reason, **more)])


def bug(what: str) -> Verdict:
    return deferred(f"bug in the connector: {what}", bug=True)


def by_event(*waiting: Deferral, delivered: int = 0, **more: Any) -> Verdict:
    return Verdict(delivered=delivered, deferred=[*waiting], by_event=True, **{"refused": []} | more)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (None, Verdict(delivered=3)),
        (Retry("busy", after=5), deferred("busy", after=5)),
        (Retry("busy", status=503, answer="wait"), deferred("busy", status=503, answer="wait")),
        (Retry(), deferred("no reason given")),
        (Unauthorized("401"), deferred("401", unauthorized=True)),
        (Unauthorized("no", status=401), deferred("no", status=401, unauthorized=True)),
        (Reject("no"), Verdict(refused=[DestinationRefusal(n, "no") for n in ALL], split=True)),
        (
            Reject("no", status=400, answer="bad"),
            Verdict(refused=[DestinationRefusal(n, "no", "refused", 400, "bad") for n in ALL], split=True),
        ),
        (
            Reject("fat", too_large=True),
            Verdict(refused=[DestinationRefusal(n, "fat", "too_large") for n in ALL], split=True, too_large=True),
        ),
        (ZeroDivisionError("x"), bug("ZeroDivisionError: x")),
        ([DELIVERED], bug("1 outcomes for 3 events")),
        (7, bug("deliver returned int, not None or a list of outcomes")),
        ([DELIVERED] * 3, Verdict(delivered=3, by_event=True)),
        (
            [None, True, "x"],
            by_event(Deferral([0, 1, 2], "bug in the connector: not an outcome: None", bug=True)),
        ),
        (
            [DELIVERED, DELIVERED, Reject],
            by_event(Deferral([2], f"bug in the connector: not an outcome: {Reject!r}", bug=True), delivered=2),
        ),
        (
            [DELIVERED, KeyError("x"), ConnectionResetError()],
            by_event(
                Deferral([2], "ConnectionResetError"),
                Deferral([1], "bug in the connector: KeyError: 'x'", bug=True),
                delivered=1,
            ),
        ),
        (
            [Retry("later", after=2), DELIVERED, Reject("no")],
            by_event(Deferral([0], "later", after=2), delivered=1, refused=[DestinationRefusal(2, "no")]),
        ),
        (
            [Retry("later", after=2, status=503), Retry("wait", after=60, answer="x"), Reject("no", status=422)],
            by_event(
                Deferral([0], "later", 503, after=2),
                Deferral([1], "wait", answer="x", after=60),
                refused=[DestinationRefusal(2, "no", status=422)],
            ),
        ),
        (
            [Retry("a", after=60), Retry("b", after=55), Retry("c")],
            by_event(Deferral([0, 1], "a", after=60), Deferral([2], "c")),
        ),
        (
            [Skipped("no use"), DELIVERED, Retry("wait", after=3, hold_lane=False)],
            by_event(Deferral([2], "wait", after=3, alone=True), delivered=1, skipped=(0,), why_skipped="no use"),
        ),
        ([DELIVERED, DELIVERED, Unauthorized("no")], by_event(Deferral([2], "no", unauthorized=True), delivered=2)),
    ],
)
def test_every_answer_of_a_connector_has_a_result(answer: Any, verdict: Verdict) -> None:
    assert judge(3, answer) == verdict


@pytest.mark.parametrize(
    "answer",
    [
        Retry("key", answer="key"),
        Unauthorized("key", answer="key"),
        Reject("key", answer="key"),
        KeyError("key"),
        [Retry("key", answer="key"), Reject("key", answer="key")],
        ["key", DELIVERED],
    ],
)
def test_what_an_answer_says_is_cleaned(answer: Any) -> None:
    verdict = judge(2, answer, lambda text: text.replace("key", "..."))
    assert verdict.deferred or verdict.refused
    assert "..." in str(verdict)
    assert "key" not in str(verdict)
    assert "key" in str(judge(2, answer))


def test_a_refused_event_that_is_alone_is_to_be_parked() -> None:
    assert judge(1, Reject("no")) == Verdict(refused=[DestinationRefusal(0, "no")], split=False)


@given(cuts=st.sets(st.integers(1, 99), max_size=12), order=st.randoms())
def test_a_cursor_settled_in_any_order_ends_at_the_end(cuts: set[int], order: Any) -> None:
    edges = [0, *sorted(cuts), 100]
    ranges = list(pairwise(edges))
    order.shuffle(ranges)
    cursor = Cursor(0, 0)
    for done, (start, stop) in enumerate(ranges, 1):
        cursor.settle(start, stop, Counts(delivered=stop - start))
        settled = {n for first, last in ranges[:done] for n in range(first, last)}
        assert set(range(cursor.position)) <= settled
        assert all(stop < start for (_, stop), (start, _) in pairwise([(0, cursor.position), *cursor.ahead]))
        open_ranges = find_unsettled(0, 100, [(0, cursor.position), *cursor.ahead])
        assert {n for first, last in open_ranges for n in range(first, last)} == set(range(100)) - settled
        assert cursor.make_ledger(100).pending == 100 - len(settled)
    assert (cursor.position, cursor.ahead) == (100, [])


def test_what_is_given_up_is_refused_with_the_cause() -> None:
    assert Deferral([0], "later", 503, "busy").given_up() == [DestinationRefusal(0, "later", "gave_up", 503, "busy")]
    (bug,) = judge(1, KeyError("x")).deferred
    assert bug.given_up() == [DestinationRefusal(0, "bug in the connector: KeyError: 'x'", "bug")]


def test_the_breaker_opens_after_failures_in_a_row_and_lets_one_probe_pass() -> None:
    breaker = Breaker()
    for failure in range(FAILURES - 1):
        breaker.failed(100.0 + failure, at_once=False)
        assert breaker.wait(10.0) == 0
    breaker.failed(130.0, at_once=False)
    assert [breaker.wait(now) for now in (100.0, 129.0)] == [30.0, 1.0]
    assert breaker.wait(130.0) == 0  # half-open: this one goes
    assert [breaker.wait(131.0) for _ in range(3)] == [PROBE_WAIT_S] * 3
    breaker.failed(150.0, at_once=False)
    assert breaker.wait(131.0) == 19.0
    assert breaker.wait(150.0) == 0
    breaker.given_up()
    assert breaker.wait(150.0) == 0
    breaker.worked()
    assert [breaker.wait(150.0) for _ in range(3)] == [0, 0, 0]


def test_the_breaker_opens_at_once_on_request_and_success_resets_its_count() -> None:
    breaker = Breaker()
    breaker.failed(20.0, at_once=True)
    assert breaker.wait(15.0) == 5.0
    breaker.worked()
    for _ in range(FAILURES - 1):
        breaker.failed(99.0, at_once=False)
    breaker.worked()
    breaker.failed(99.0, at_once=False)
    assert breaker.wait(15.0) == 0


def test_a_connector_with_a_bug_is_retried_in_turns_until_a_success() -> None:
    breaker = Breaker()
    for _ in range(BUGS - 1):
        breaker.stumbled()
    assert [breaker.wait(10.0) for _ in range(3)] == [0, 0, 0]
    breaker.stumbled()
    assert [breaker.wait(10.0) for _ in range(3)] == [0, pytest.approx(BUG_GAP_S), pytest.approx(BUG_GAP_S)]
    assert breaker.state(10.0) == "closed", "that is not the destination's fault"
    assert [breaker.wait(11.0) == 0 for _ in range(2)] == [True, False]
    breaker.try_now()
    assert breaker.wait(11.0) == 0
    breaker.failed(20.0, at_once=True)
    assert breaker.wait(11.0) == 9.0
    assert [breaker.wait(20.0) for _ in range(2)] == [0, PROBE_WAIT_S]
    breaker.worked()
    assert [breaker.wait(20.0) for _ in range(3)] == [0, 0, 0]


@example([4, 9, 5, 7])
@given(st.sets(st.integers(0, 12)).flatmap(lambda offsets: st.permutations(sorted(offsets))))
def test_single_events_are_settled_in_any_order(offsets: list[int]) -> None:
    cursor = Cursor(0, 0)
    cursor.settle_each(offsets, Counts(delivered=len(offsets)))
    assert {offset for offset in range(14) if cursor.is_settled(offset)} == {*offsets}


def test_reasons_are_cut_before_they_are_kept_for_each_event() -> None:
    """Filters, sources and lanes that fail cut theirs as well."""
    text = "x" * 100_000
    for answer in (Retry(text), Reject(text, answer=text), ValueError(text), [Skipped(text)], [Reject(text)]):
        verdict = judge(1, answer)  # type: ignore[arg-type]
        reasons = [verdict.why_skipped, *(one.reason for one in [*verdict.refused, *verdict.deferred])]
        assert max(map(len, reasons)) < 1100
        assert all(len(one.answer) <= 1000 for one in verdict.refused)
