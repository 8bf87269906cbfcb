"""A source's rate: what gets through, what comes later, and when."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.ingest.problem import Problem
from relay.ingest.rate_limit import SourceRateLimit


class Sender:
    """Sends at the times the test says."""

    def __init__(self, rate: float) -> None:
        self.now = 0.0
        self.limit = SourceRateLimit(rate, lambda: self.now)

    def send(self, events: int) -> int:
        """0, or the seconds it is told to wait."""
        try:
            self.limit.take(events)
        except Problem as problem:
            return int(problem.headers["Retry-After"])
        return 0


@pytest.mark.parametrize(
    ("rate", "sent", "waits"),
    [
        (10, [(0, 10), (0, 1), (0.05, 1), (0.05, 1)], [0, 1, 0, 1]),  # the second is used up, then a little is there
        (10, [(0, 10), (0, 1), (5, 10), (5, 1)], [0, 1, 0, 1]),  # it fills up to one second, no further
        (10, [(0, 100), (0, 1), (8.9, 1), (9.5, 1)], [0, 10, 1, 0]),  # a large one leaves a debt of nine seconds
        (10, [(0, 9), (0, 100), (0, 1)], [0, 0, 10]),  # and needs no full second
        (0.1, [(0, 1), (5, 1), (8.5, 1), (10.1, 1)], [0, 0, 2, 0]),  # less than one per second
        (1, [(0, 50), (0, 0), (49.5, 0), (49.5, 1)], [0, 0, 0, 0]),  # a probe costs nothing and always passes
    ],
)
def test_what_comes_later(rate: float, sent: list[tuple[float, int]], waits: list[int]) -> None:
    sender = Sender(rate)
    seen = []
    for moment, events in sent:
        sender.now = moment
        seen.append(sender.send(events))
    assert seen == waits
    assert sender.limit.refused == sum(wait > 0 for wait in waits)


@given(st.floats(0.01, 10_000), st.lists(st.tuples(st.floats(0, 10), st.integers(0, 10_000)), max_size=50))
def test_nobody_gets_more_than_the_rate_and_nobody_waits_for_ever(rate: float, gaps: list[Any]) -> None:
    sender = Sender(rate)
    passed = largest = 0
    for gap, events in gaps:
        sender.now += gap
        wait = sender.send(events)
        if wait:
            sender.now += wait + 1e-6 * wait  # the clock of the test is rounded, too
            assert sender.send(events) == 0, "who keeps to Retry-After gets through"
        passed, largest = passed + events, max(largest, events)
        assert passed <= (rate * sender.now + max(rate, 1) + largest) * (1 + 1e-9)
