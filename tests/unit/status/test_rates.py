"""How fast counters change."""

from collections.abc import Callable

import pytest

from relay.status.rates import Rates, predict_time


def test_a_rate_is_of_the_last_seconds_and_zero_for_unknown_counters() -> None:
    rates = Rates()
    assert rates.measure_change("a") == 0.0
    for second in range(100):
        rates.note(second, {"a": 0 if second < 95 else 10 * (second - 94), **({"b": second} if second > 97 else {})})
    assert rates.measure_change("a", 5) == 10.0
    assert rates.measure_change("a") == 50 / 60
    assert rates.measure_change("b") == 1.0
    assert rates.measure_change("c") == 0.0


@pytest.mark.parametrize(
    ("pace", "steady"),
    [
        (lambda second: 10, 10.0),
        (lambda second: 40 * (second % 4 == 0), 10.0),  # a batch now and then
        (lambda second: 0 if second < 70 else 10, None),  # nobody sent, or was taken
        (lambda second: 1 if second < 80 else 100, None),
        (lambda second: 10 if second < 80 else 0, None),
        (lambda second: -10, None),
    ],
)
def test_a_rate_is_steady_if_both_halves_of_a_minute_have_it(pace: Callable[[int], int], steady: float | None) -> None:
    rates, value = Rates(), 0
    for second in range(100):
        assert second > 60 or rates.measure_steady_change("held") is None
        value += pace(second)
        rates.note(second, {"held": value})
    assert rates.measure_steady_change("held") == steady


def test_the_time_that_is_left() -> None:
    assert [predict_time(*given) for given in ((0, 0), (10, 5), (10, 0), (10, -1))] == [0.0, 2.0, None, None]
