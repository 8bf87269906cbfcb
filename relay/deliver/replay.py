"""Parked events on their way again: what the filters say of them this time, and what is to be sent. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relay.api import Batch, Block
from relay.journal import Counts, Parked
from relay.route import Failed, Routed


@dataclass(frozen=True, slots=True)
class Replay:
    """A batch to deliver, events whose filter failed again, and the outcomes that are clear already."""

    batch: Batch | None
    failed: Sequence[Failed]
    counts: Counts


def prepare(parked: Sequence[Parked], route: Callable[[Block], Routed]) -> Replay:
    """Route what a failed filter had parked; all else has been through the filters and is sent as it is."""
    blocks = [Block.of([one.event]) for one in parked]  # one each: they came at different times
    routed = [
        route(block) if one.cause == "filter" else Routed(block) for one, block in zip(parked, blocks, strict=True)
    ]
    wanted = [each.wanted for each in routed if each.wanted]
    failed = [failed for each in routed for failed in each.failed]
    filtered = sum(len(each.filtered) for each in routed)
    unselected = len(parked) - len(wanted) - len(failed) - filtered
    return Replay(Batch(wanted) if wanted else None, failed, Counts(filtered=filtered, unselected=unselected))
