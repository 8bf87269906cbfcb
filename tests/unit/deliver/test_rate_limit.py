"""The rate limit of a connector."""

from relay.deliver.rate_limit import RateLimit


def test_the_rate_limit_holds_on_average_with_a_burst_of_one_second() -> None:
    pace = RateLimit(100)
    now = 1000.0
    waits = [pace.book(50, now) for _ in range(6)]
    assert waits == [0, 0, 0, 0.5, 1.0, 1.5]
    assert pace.book(50, now + 100) == 0
    assert RateLimit(0).book(10**9, now) == 0


def test_a_used_up_limit_pays_for_a_batch_that_has_gone_elsewhere() -> None:
    pace, slow, now = RateLimit(100), RateLimit(0.1), 1000.0
    for one in (pace, slow, none := RateLimit(0)):
        one.use_up(now)
    assert [pace.book(100, now) for _ in range(2)] == [1.0, 2.0]
    assert slow.book(1, now) == 10.0
    assert none.book(10**9, now) == 0


def test_what_is_given_back_shortens_the_wait_of_those_who_come_later() -> None:
    pace, now = RateLimit(100), 1000.0
    assert [pace.book(100, now) for _ in range(3)] == [0, 0, 1.0]
    pace.give_back(100)
    assert pace.given_back == 1.0
    assert pace.book(100, now) == 1.0
    pace.give_back(10**6)
    assert [pace.book(100, now) for _ in range(3)] == [0, 0, 1.0], "no more than a second's burst comes of it"
