"""Attempts at events that did not succeed at once. Pure."""

import json
from collections.abc import Sequence
from typing import Any, Final, Literal

from msgspec import Struct

ATTEMPTS_COLUMNS: Final = "connector, replay, ranges, attempts, outcome, answer, first, last"
"""The columns of attempts in a table; `ranges` is JSON."""
ATTEMPTS_KEPT: Final = 100_000
ATTEMPTS_KEPT_BYTES: Final = 64 << 20
"""Bytes of kept attempts, at most. The oldest are deleted first."""


class Attempts(Struct, frozen=True):
    """Attempts to deliver some events together, up to now or up to their outcome."""

    connector: str
    replay: int
    """The number of the replay that tried them; 0: the lane."""
    ranges: Sequence[tuple[int, int]]
    """Offsets of the events."""
    attempts: int
    outcome: Literal["pending", "delivered", "filtered", "parked"]
    answer: str
    """The error of the last failed attempt, or why the connector skips the events."""
    first: float
    """Time of the first failure in Unix seconds."""
    last: float
    """Time of the last attempt in Unix seconds."""

    @property
    def key(self) -> tuple[str, int, int, int, int]:
        """The same value for all attempts at the same events."""
        events = sum(stop - start for start, stop in self.ranges)
        return self.connector, self.replay, self.ranges[0][0], self.ranges[-1][1], events

    def covers(self, offset: int) -> bool:
        """Return whether the event at this offset is among the events."""
        return any(start <= offset < stop for start, stop in self.ranges)


def parse_attempts(connector: str, replay: int, ranges: str, *rest: Any) -> Attempts:
    """Parse attempts from a row with `ATTEMPTS_COLUMNS`."""
    return Attempts(connector, replay, [(start, stop) for start, stop in json.loads(ranges)], *rest)
