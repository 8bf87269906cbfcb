"""The life of a Current, by a clock that is only a number."""

from random import Random

import pytest

from relay.sandbox.braze.current import MOST_BYTES, Current
from relay.sandbox.braze.reactions import DAY_S, HOUR_S, CurrentsSwitches

KIND = "users.messages.email.Open"


def current(**switches) -> Current:
    return Current(CurrentsSwitches(**switches), Random(1))


def filled(count: int, **switches) -> Current:
    made = current(age=0, **switches)
    for number in range(count):
        made.add(KIND, b"%d" % number, 0.0)
    return made


def sizes(made: Current, now: float) -> list[int]:
    found = []
    while batch := made.take(now):
        found.append(len(batch.events))
    return found


def answer(made: Current, status: int | None, now: float) -> bool:
    """Answer the next batch; tell whether there was one."""
    batch = made.take(now)
    if batch is not None:
        made.settle(batch, status, now)
    return batch is not None


def balanced(made: Current) -> bool:
    counts = made.counts
    return counts.sent == counts.accepted + counts.dropped + counts.lost + made.waiting


def test_a_batch_goes_out_when_it_is_full_or_five_minutes_old():
    made = current()
    for number in range(120):
        made.add("a", b"a", float(number))
    made.add("b", b"b", 50.0)
    assert sizes(made, 120.0) == [100]
    assert made.count_filling() == {"a": 20, "b": 1}
    assert made.find_due() == 350.0
    assert sizes(made, 350.0) == [1]
    assert sizes(made, 399.0) == []
    assert sizes(made, 400.0) == [20]


def test_wrong_credentials_stop_it_and_what_was_refused_is_not_sent_again():
    made = filled(250)
    assert answer(made, 401, 10.0)
    assert made.stopped == "HTTP 401"
    assert not made.add(KIND, b"new", 11.0)
    assert made.take(12.0) is None
    assert (made.counts.dropped, made.counts.lost, made.waiting) == (100, 1, 150)
    made.enable(20.0)
    assert sizes(made, 20.0) == [100, 50]
    assert balanced(made)


def test_five_days_of_errors_disable_it_and_the_queue_is_kept_seven_more():
    made = filled(100)
    now = 0.0
    while not made.stopped:
        now = max(now, made.find_due())
        answer(made, 503, now)
    made.add(KIND, b"new", now)
    assert made.stopped == "disabled after 5 days of errors"
    assert 5 * DAY_S <= now < 5 * DAY_S + 600
    assert (made.waiting, made.counts.lost) == (100, 1)
    assert made.find_due() == now + 7 * DAY_S
    assert made.take(made.find_due() - 1) is None
    assert made.waiting == 100
    assert made.take(made.find_due()) is None
    assert (made.waiting, made.counts.dropped) == (0, 100)
    assert balanced(made)


def test_a_current_that_is_enabled_in_time_sends_what_is_left():
    made = filled(3)
    answer(made, None, 0.0)
    made.take(6 * DAY_S)
    assert made.stopped
    made.enable(12 * DAY_S)
    assert sizes(made, 12 * DAY_S) == [3]


def test_a_success_in_between_starts_the_five_days_anew():
    made = filled(100)
    made.add("b", b"b", 0.0)
    assert answer(made, 503, 0.0)
    assert made.failing_since == 0.0
    assert answer(made, 202, 1.0)
    assert made.failing_since is None


@pytest.mark.parametrize(("status", "after"), [(401, 48 * HOUR_S), (404, 48 * HOUR_S), (429, 24 * HOUR_S)])
def test_by_the_older_page_it_goes_on_and_drops_events_in_the_end(status, after):
    made = filled(100, page="older")
    now = 0.0
    while made.waiting:
        now = max(now, made.find_due())
        assert answer(made, status, now)
    assert not made.stopped
    assert after < now < after + 600
    assert made.counts.dropped == 100


def test_wrong_credentials_are_retried_after_2_to_5_minutes_by_older_rules():
    made = filled(1, page="older")
    answer(made, 403, 0.0)
    assert 120 <= made.find_due() <= 300


def test_accepted_batches_come_again_whole_or_in_part_with_the_same_events():
    made = filled(100, repeat=1, repeat_part=1)
    first = made.take(0.0)
    made.settle(first, 200, 0.0)
    made.switches = CurrentsSwitches(age=0)
    again = [made.take(0.0), made.take(0.0)]
    assert again[0].events == first.events
    assert set(again[1].events) <= set(first.events)
    for batch in again:
        made.settle(batch, 400 if batch is again[0] else 200, 0.0)
    assert made.counts.repeated == 100 + len(again[1].events)
    assert made.counts.accepted == 100
    assert balanced(made)


def test_what_a_current_does_not_have():
    made = current(entitlement="messages", age=0)
    for kind in ("users.behaviors.Purchase", "users.messages.pigeon.Send", "users.behaviors.Uninstall", KIND):
        made.add(kind, b"{}", 0.0)
    assert made.counts.sent == 3, "Uninstall is a message event, and unknown types may be"
    made.add(KIND, b"x" * (MOST_BYTES + 1), 0.0)
    assert (made.counts.lost, made.waiting) == (1, 3)


@pytest.mark.parametrize("page", ["current", "older"])
def test_the_ledger_balances_whatever_the_destination_answers(page):
    rng, made, now = Random(page), current(page=page, repeat=0.2, repeat_part=0.2, age=60), 0.0
    for _ in range(3000):
        now += rng.expovariate(1 / 300)
        made.add(rng.choice("abc"), b"{}", now)
        answer(made, rng.choice([200, 200, 400, 413, 429, 500, None]) if rng.random() < 0.999 else 401, now)
        if made.stopped and rng.random() < 0.01:
            made.enable(now)
        assert balanced(made)
    assert made.counts.accepted
    assert made.counts.dropped
