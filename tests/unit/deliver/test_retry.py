"""When a lane tries again: backoff with jitter, and the breaker."""

import random

import pytest

from relay.deliver.retry import BUG_GAP_S, BUGS, FAILURES, MAX_RETRY_AFTER_S, PROBE_WAIT_S, Breaker, draw_retry_delay


def test_retries_back_off_exponentially_with_full_jitter_up_to_the_longest() -> None:
    chance = random.Random(1)
    for attempt, ceiling in [(1, 1.0), (2, 2.0), (5, 16.0), (9, 60.0), (5000, 60.0)]:
        delays = [draw_retry_delay(attempt, first=1, longest=60, after=None, chance=chance) for _ in range(500)]
        assert 0 <= min(delays) < ceiling * 0.1
        assert ceiling * 0.9 < max(delays) <= ceiling


@pytest.mark.parametrize(("after", "least"), [(30.0, 30.0), (1e9, MAX_RETRY_AFTER_S), (0.0, 0.0)])
def test_a_retry_never_comes_before_retry_after(after: float, least: float) -> None:
    assert draw_retry_delay(1, first=1, longest=5, after=after, chance=random.Random(1)) >= least


def test_the_breaker_opens_after_failures_in_a_row_and_lets_one_probe_pass() -> None:
    breaker = Breaker()
    for failure in range(FAILURES - 1):
        breaker.record_failure(100.0 + failure, at_once=False)
        assert breaker.admit(10.0) == 0
    breaker.record_failure(130.0, at_once=False)
    assert [breaker.admit(now) for now in (100.0, 129.0)] == [30.0, 1.0]
    assert breaker.admit(130.0) == 0  # half-open: this one goes
    assert [breaker.admit(131.0) for _ in range(3)] == [PROBE_WAIT_S] * 3
    breaker.record_failure(150.0, at_once=False)
    assert breaker.admit(131.0) == 19.0
    assert breaker.admit(150.0) == 0
    breaker.record_no_result()
    assert breaker.admit(150.0) == 0
    breaker.record_success()
    assert [breaker.admit(150.0) for _ in range(3)] == [0, 0, 0]


def test_the_breaker_opens_at_once_on_request_and_success_resets_its_count() -> None:
    breaker = Breaker()
    breaker.record_failure(20.0, at_once=True)
    assert breaker.admit(15.0) == 5.0
    breaker.record_success()
    for _ in range(FAILURES - 1):
        breaker.record_failure(99.0, at_once=False)
    breaker.record_success()
    breaker.record_failure(99.0, at_once=False)
    assert breaker.admit(15.0) == 0


def test_a_connector_with_a_bug_is_retried_in_turns_until_a_success() -> None:
    breaker = Breaker()
    for _ in range(BUGS - 1):
        breaker.record_bug()
    assert [breaker.admit(10.0) for _ in range(3)] == [0, 0, 0]
    breaker.record_bug()
    assert [breaker.admit(10.0) for _ in range(3)] == [0, pytest.approx(BUG_GAP_S), pytest.approx(BUG_GAP_S)]
    assert breaker.state(10.0) == "closed", "that is not the destination's fault"
    assert [breaker.admit(11.0) == 0 for _ in range(2)] == [True, False]
    breaker.try_now()
    assert breaker.admit(11.0) == 0
    breaker.record_failure(20.0, at_once=True)
    assert breaker.admit(11.0) == 9.0
    assert [breaker.admit(20.0) for _ in range(2)] == [0, PROBE_WAIT_S]
    breaker.record_success()
    assert [breaker.admit(20.0) for _ in range(3)] == [0, 0, 0]
