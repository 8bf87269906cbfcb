"""What becomes of a batch of which not everything got through at once: waits, searches for culprits, order."""

import random
from collections.abc import Callable, Sequence
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.api import DELIVERED, Batch, Outcome, Reject, Retry, RetrySettings
from relay.deliver.batch.split import Remainder
from relay.deliver.result import judge
from relay.testing import make_batch, make_event

Answer = Callable[[list[int]], Sequence[Outcome] | Exception | None]


class Run:
    """A batch on its way to a connector, without a clock but the one that waits tell."""

    def __init__(self, events: int, answer: Answer, *, keys: Sequence[str | None] | None = None, give_up: float = 0.0):
        self.batch = make_batch([make_event(n=n) for n in range(events)])
        self.answer = answer
        self.now, self.proof = 0.0, -inf
        self.tried: list[list[int]] = []
        self.delivered: list[int] = []
        self.parked: dict[int, str] = {}
        self.at: dict[int, float] = {}
        """When each event had its outcome."""
        retry = RetrySettings.model_validate({"first": "1s", "max": "60s", "give_up_after": f"{give_up}s"})
        chosen = None if keys is None else lambda batch: keys
        self.remainder = Remainder(self.batch, retry, 0.0, chosen, random.Random(1))

    def go_on(self, attempts: int = 10_000) -> "Run":
        """Until everything has its outcome, or for so many attempts."""
        while self.remainder and len(self.tried) < attempts:
            self.now = max(self.now, self.remainder.due)
            part = self.remainder.take()
            numbers = self.numbers(part.batch)
            self.tried.append(numbers)
            began = self.now
            self.now += 0.01
            result = judge(len(numbers), self.answer(numbers))
            if result.settles_any:
                self.proof = began
            following = self.remainder.record(part, result, self.now, self.proof)
            if result.split:
                continue
            others = {*result.deferred_numbers, *(one.number for one in result.refused)}
            self.delivered += [number for at, number in enumerate(numbers) if at not in others]
            self.parked |= {numbers[one.number]: one.cause for one in result.refused}
            for batch, refused in following.parked:
                self.parked |= {self.numbers(batch)[one.number]: one.cause for one in refused}
            self.at |= {n: self.now for n in [*self.delivered, *self.parked] if n not in self.at}
        return self

    def numbers(self, batch: Batch) -> list[int]:
        return [event.properties["n"] for event in batch]


def failing_at(*culprits: int, by: Exception) -> Answer:
    """A connector that fails at whole batches with one of these events."""
    return lambda numbers: by if {*culprits}.intersection(numbers) else None


BUG = KeyError("x")


@given(events=st.integers(2, 200), culprits=st.sets(st.integers(0, 199), min_size=1, max_size=4))
def test_events_that_make_a_connector_fail_are_parked_and_others_delivered(events: int, culprits: set[int]) -> None:
    """Looked at as well: a connector that fails at everything, one that answers per event (below)."""
    culprits = {culprit % events for culprit in culprits}
    if len(culprits) == events:
        return
    run = Run(events, failing_at(*culprits, by=BUG)).go_on(400)
    assert run.parked == dict.fromkeys(culprits, "bug")
    assert sorted(run.delivered) == sorted({*range(events)} - culprits)


def test_one_culprit_takes_log2_n_attempts_and_a_few() -> None:
    run = Run(1024, failing_at(617, by=BUG)).go_on()
    assert run.parked == {617: "bug"}
    assert len(run.tried) <= 3 + 2 * 10 + 2


@pytest.mark.parametrize("events", [1, 2, 100, 1000])
def test_a_connector_that_fails_at_everything_parks_nothing_and_rests(events: int) -> None:
    run = Run(events, lambda numbers: BUG).go_on(300)
    assert (run.parked, run.delivered) == ({}, [])
    assert run.now > 3000, "300 attempts take hours: searches become rarer, waits longer"
    run.answer = lambda numbers: None
    run.go_on()
    assert sorted(run.delivered) == [*range(events)]


def test_a_batch_of_culprits_is_parked_once_other_batches_are_delivered() -> None:
    run = Run(8, lambda numbers: BUG).go_on(50)
    assert not run.parked
    for attempts in range(51, 300):
        run.proof = run.now
        run.go_on(attempts)
    assert run.parked == dict.fromkeys(range(8), "bug")


def test_a_single_event_is_parked_after_five_failures_between_successes() -> None:
    run = Run(1, lambda numbers: BUG)
    run.proof = 0.0
    run.go_on(10)
    assert not run.parked
    run.proof = run.now
    run.go_on(11)
    assert run.parked == {0: "bug"}


def test_of_outcomes_per_event_those_that_are_none_are_parked_alone() -> None:
    run = Run(8, lambda numbers: [None if n == 3 else DELIVERED for n in numbers]).go_on()  # type: ignore[misc]
    assert run.parked == {3: "bug"}
    assert [len(numbers) for numbers in run.tried] == [8, 1, 1, 1, 1]


@given(events=st.integers(2, 100), culprit=st.integers(0, 99))
def test_of_a_batch_that_is_given_up_only_what_fails_alone_is_parked(events: int, culprit: int) -> None:
    culprit %= events
    run = Run(events, failing_at(culprit, by=Retry("busy")), give_up=5.0).go_on()
    assert run.parked == {culprit: "gave_up"}
    assert len(run.delivered) == events - 1


def test_what_a_dead_destination_does_not_take_is_given_up_as_a_whole() -> None:
    run = Run(1000, lambda numbers: Retry("away"), give_up=30.0).go_on()
    assert run.parked == dict.fromkeys(range(1000), "gave_up")
    assert len(run.tried) < 40


def test_a_wait_holds_for_the_event_that_it_was_asked_for() -> None:
    asked = {0: 1.0, 1: 50.0, 2: 0.0}

    def first_not(numbers: list[int]) -> list[Outcome]:
        return [DELIVERED if len(run.tried) > 1 else Retry("busy", after=asked[n], hold_lane=False) for n in numbers]

    run = Run(3, first_not)
    run.go_on()
    assert run.delivered == [2, 0, 1]
    assert [run.at[n] >= asked[n] for n in range(3)] == [True] * 3
    assert run.at[0] < 2


def test_waits_of_about_the_same_length_are_one_wait() -> None:
    def first_not(numbers: list[int]) -> list[Outcome] | None:
        return [Retry("busy", after=1 + n / 10) for n in numbers] if len(numbers) == 200 else None

    run = Run(200, first_not).go_on()
    assert 5 < len(run.tried) < 20


@given(
    keys=st.lists(st.sampled_from(["a", "b", None]), min_size=2, max_size=24),
    bad=st.sets(st.integers(0, 23), max_size=3),
    chance=st.randoms(use_true_random=False),
    by=st.sampled_from([BUG, Retry("busy"), Reject("no")]),
)
def test_no_event_overtakes_an_earlier_one_of_its_key(
    keys: list[str | None], bad: set[int], chance: random.Random, by: Exception
) -> None:
    """An event that has to wait, or is looked for, holds up those behind it of its key, and no others."""

    def answer(numbers: list[int]) -> Sequence[Outcome] | Exception | None:
        if bad.intersection(numbers):
            return by
        if chance.random() < 0.3:
            cut = chance.randrange(len(numbers))
            after = chance.choice([None, 0.0, 1.0, 30.0])
            return [DELIVERED if at < cut else Retry("busy", after=after) for at in range(len(numbers))]
        return None

    run = Run(len(keys), answer, keys=keys).go_on(300)
    for key in ("a", "b"):
        done = [n for n in run.at if keys[n] == key]
        settled = sorted(done, key=lambda n: (run.at[n], n))
        assert settled == sorted(settled)
        assert settled == [n for n in range(len(keys)) if keys[n] == key][: len(settled)]
