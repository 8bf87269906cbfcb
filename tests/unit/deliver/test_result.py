"""What the answer of a connector means for each event."""

from collections.abc import Sequence
from typing import Any

import pytest

from relay.api import DELIVERED, Reject, Retry, Skipped, Unauthorized
from relay.deliver.result import AttemptResult, Deferral, DestinationRefusal, judge


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
    result = judge(3, answer)
    assert (result.unsent, result.settles_any) == (unsent, answered)


ALL = range(3)


def deferred(reason: str, numbers: Sequence[int] = ALL, **more: Any) -> AttemptResult:
    """All is to be tried again, or these events."""
    return AttemptResult(deferred=[Deferral(numbers, reason, **more)])


def bug(what: str) -> AttemptResult:
    return deferred(f"bug in the connector: {what}", bug=True)


def by_event(*waiting: Deferral, delivered: int = 0, **more: Any) -> AttemptResult:
    return AttemptResult(delivered=delivered, deferred=[*waiting], by_event=True, **{"refused": []} | more)


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (None, AttemptResult(delivered=3)),
        (Retry("busy", after=5), deferred("busy", after=5)),
        (Retry("busy", status=503, answer="wait"), deferred("busy", status=503, answer="wait")),
        (Retry(), deferred("no reason given")),
        (Unauthorized("401"), deferred("401", unauthorized=True)),
        (Unauthorized("no", status=401), deferred("no", status=401, unauthorized=True)),
        (Reject("no"), AttemptResult(refused=[DestinationRefusal(n, "no") for n in ALL], split=True)),
        (
            Reject("no", status=400, answer="bad"),
            AttemptResult(refused=[DestinationRefusal(n, "no", "refused", 400, "bad") for n in ALL], split=True),
        ),
        (
            Reject("fat", too_large=True),
            AttemptResult(refused=[DestinationRefusal(n, "fat", "too_large") for n in ALL], split=True, too_large=True),
        ),
        (ZeroDivisionError("x"), bug("ZeroDivisionError: x")),
        ([DELIVERED], bug("1 outcomes for 3 events")),
        (7, bug("deliver returned int, not None or a list of outcomes")),
        ([DELIVERED] * 3, AttemptResult(delivered=3, by_event=True)),
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
def test_every_answer_of_a_connector_has_a_result(answer: Any, result: AttemptResult) -> None:
    assert judge(3, answer) == result


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
    result = judge(2, answer, lambda text: text.replace("key", "..."))
    assert result.deferred or result.refused
    assert "..." in str(result)
    assert "key" not in str(result)
    assert "key" in str(judge(2, answer))


def test_a_refused_event_that_is_alone_is_to_be_parked() -> None:
    assert judge(1, Reject("no")) == AttemptResult(refused=[DestinationRefusal(0, "no")], split=False)


def test_what_is_given_up_is_refused_with_the_cause() -> None:
    (refusal,) = Deferral([0], "later", 503, "busy").make_refusals()
    assert refusal == DestinationRefusal(0, "later", "gave_up", 503, "busy")
    (bug,) = judge(1, KeyError("x")).deferred
    assert bug.make_refusals() == [DestinationRefusal(0, "bug in the connector: KeyError: 'x'", "bug")]


def test_reasons_are_cut_before_they_are_kept_for_each_event() -> None:
    """Filters, sources and lanes that fail cut theirs as well."""
    text = "x" * 100_000
    for answer in (Retry(text), Reject(text, answer=text), ValueError(text), [Skipped(text)], [Reject(text)]):
        result = judge(1, answer)  # type: ignore[arg-type]
        told: list[Any] = [*result.refused, *result.deferred]
        reasons = [result.why_skipped, *(one.reason for one in told)]
        assert max(map(len, reasons)) < 1100
        assert all(len(one.answer) <= 1000 for one in result.refused)
