"""How fast counters change."""

from relay.admin.rates import Rates, time_to


def test_a_rate_is_that_of_the_last_seconds_and_unknown_counters_stand_still() -> None:
    rates = Rates()
    assert rates.change("a") == 0.0
    for second in range(100):
        rates.note(second, {"a": 0 if second < 95 else 10 * (second - 94), **({"b": second} if second > 97 else {})})
    assert rates.change("a", 5) == 10.0
    assert rates.change("a") == 50 / 60
    assert rates.change("b") == 1.0
    assert rates.change("c") == 0.0


def test_the_time_that_is_left() -> None:
    assert [time_to(*given) for given in ((0, 0), (10, 5), (10, 0), (10, -1))] == [0.0, 2.0, None, None]
