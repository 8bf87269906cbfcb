"""How many attempts go at once: what a destination's answers make of the limit, and who waits for a slot."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.deliver.concurrency import START, AdaptiveLimit, ConcurrencyLimit

MOST = 16


def rounds(adaptive: AdaptiveLimit, number: int, answer: Callable[[], None]) -> list[int]:
    """So many rounds of the same answer, and the limit after each."""
    limits = []
    for _ in range(number):
        for _ in range(adaptive.limit):
            answer()
        limits.append(adaptive.limit)
    return limits


def steady(adaptive: AdaptiveLimit, seconds: float = 0.02, *, full: bool = True) -> Callable[[], None]:
    return lambda: adaptive.record_answer(seconds, full=full)


def test_it_grows_up_to_the_limit_while_latency_holds() -> None:
    adaptive = AdaptiveLimit(MOST)
    assert rounds(adaptive, 5, steady(adaptive)) == [4, 8, 16, 16, 16]


def test_a_concurrency_limit_that_nobody_needs_does_not_grow() -> None:
    adaptive = AdaptiveLimit(MOST)
    assert rounds(adaptive, 5, steady(adaptive, full=False)) == [START] * 5


def test_a_push_back_halves_them_and_then_they_grow_by_one() -> None:
    adaptive = AdaptiveLimit(MOST)
    rounds(adaptive, 5, steady(adaptive))
    assert rounds(adaptive, 1, adaptive.record_push_back) == [8]
    assert rounds(adaptive, 3, steady(adaptive)) == [9, 10, 11]


def test_a_dead_destination_leaves_one() -> None:
    adaptive = AdaptiveLimit(MOST)
    rounds(adaptive, 5, steady(adaptive))
    assert rounds(adaptive, 6, adaptive.record_push_back)[-1] == 1


def test_rising_latency_halves_them_until_it_is_the_usual_one() -> None:
    adaptive = AdaptiveLimit(MOST)
    rounds(adaptive, 5, steady(adaptive))
    assert rounds(adaptive, 1, steady(adaptive, 0.2)) == [8]
    assert rounds(adaptive, 40, steady(adaptive, 0.2))[-1] == MOST, "a destination that has become slow is used fully"


def test_small_times_may_vary() -> None:
    adaptive = AdaptiveLimit(MOST)
    rounds(adaptive, 5, steady(adaptive, 0.001))
    assert rounds(adaptive, 5, steady(adaptive, 0.008)) == [MOST] * 5


@given(most=st.integers(1, 40), answers=st.lists(st.none() | st.floats(0, 100)))
def test_it_is_never_below_one_nor_over_the_connectors_limit(most: int, answers: list[float | None]) -> None:
    adaptive = AdaptiveLimit(most)
    for answer in answers:
        adaptive.record_push_back() if answer is None else adaptive.record_answer(answer, full=True)
        assert 1 <= adaptive.limit <= most


@pytest.mark.parametrize("cancelled", ["nobody", "before its turn", "in its turn"])
async def test_room_goes_to_the_longest_waiter_and_survives_a_cancelled_one(cancelled: str) -> None:
    slots, order = ConcurrencyLimit(1), list[int]()

    async def take(number: int) -> None:
        async with slots:
            order.append(number)

    async with asyncio.TaskGroup() as group:
        async with slots:
            waiting = [group.create_task(take(number), name=f"{number}") for number in range(3)]
            await asyncio.sleep(0)
            if cancelled == "before its turn":
                waiting[0].cancel()  # it does not know yet when the slot is free
        if cancelled == "in its turn":
            waiting[0].cancel()  # its turn has come, but it does not know yet
    assert order == ([0, 1, 2] if cancelled == "nobody" else [1, 2])
    assert [one.cancelled() for one in waiting] == [cancelled != "nobody", False, False]
    async with asyncio.timeout(30), slots:
        pass
