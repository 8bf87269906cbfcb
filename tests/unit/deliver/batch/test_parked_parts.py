"""What lies parked of events that a lane takes once more."""

import pytest

from relay.deliver.batch.builder import Span
from relay.deliver.batch.parked_parts import ParkedParts
from relay.store import Counts, Parked


@pytest.mark.parametrize("outcome", ["expired", "damaged"])
def test_a_parked_event_that_left_the_journal_counts_as_parked_alone(outcome: str) -> None:
    told: list[bool] = []
    parked_parts = ParkedParts(lambda: told.append(True))
    parked_parts.reset([Parked("braze", "it", 3, "users.messages.email.Open", "rejected", "no", 1, b"{}")])
    span = parked_parts.correct_counts(Span(0, 5, None, (), Counts(**{outcome: 5})))
    assert (span.counts, told) == (Counts(**{outcome: 4}, parked=1), [True])
