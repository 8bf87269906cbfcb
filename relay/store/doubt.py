"""A doubt about journal, database or clock. Pure."""

from collections.abc import Iterator
from typing import Final, Literal

from msgspec import Struct

ON_CLOCK: Final = "accepting the clock ends this warning, and events, ids and parked events age by the clock again"
"""What accepting the clock does."""
ON_LOSSES: Final = "accepting the journal ends this warning, and changes nothing else: what is lost stays lost"
"""What accepting the journal with its losses does."""


class Doubt(Struct, frozen=True, kw_only=True):
    """A doubt that an admin may accept."""

    worker: int
    what: Literal["journal", "clock"]
    """The name by which it is accepted."""
    said: str
    """The doubt in a sentence."""
    is_damage: bool = False
    """Whether connectors and replays could not read something."""


def list_doubts(worker: int, journal: str, damage: str, ahead: float) -> Iterator[Doubt]:
    """List the doubts of a partition, from sentences on its journal and on its damage; "": no doubt.

    `ahead`: seconds by which a clock is ahead of what can be right.
    """
    if journal:
        yield Doubt(worker=worker, what="journal", said=journal)
    if damage:
        yield Doubt(worker=worker, what="journal", said=damage, is_damage=True)
    if ahead:
        days = f"{ahead / 86400:,.1f} days"
        said = f"it is {days} ahead of what can be right, and nothing is removed for its age until it is set right"
        yield Doubt(worker=worker, what="clock", said=said)
