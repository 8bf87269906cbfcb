"""The partitions that this process could not open: why, and when it tries again."""

import time
from collections.abc import Mapping
from typing import Final, NamedTuple

FIRST_S: Final = 0.5
LONGEST_S: Final = 60.0
"""Seconds between two tries at most. A partition that nobody has for so long is another process's to try."""


class _Failure(NamedTuple):
    reason: str
    pause_s: float
    due: float
    """When to try again, in monotonic seconds."""


class Unopened:
    """The partitions that this process could not open."""

    def __init__(self) -> None:
        self._failures: dict[int, _Failure] = {}

    def note_failure(self, partition: int, reason: str) -> float:
        """Note that a partition could not be opened; return the seconds until the next try."""
        before = self._failures.get(partition)
        pause_s = FIRST_S if before is None else min(LONGEST_S, 2 * before.pause_s)
        self._failures[partition] = _Failure(reason, pause_s, time.monotonic() + pause_s)
        return pause_s

    def note_opened(self, partition: int) -> None:
        """Note that a partition is open."""
        self._failures.pop(partition, None)

    def find_waiting(self) -> set[int]:
        """Return the partitions whose next try is not due."""
        now = time.monotonic()
        return {partition for partition, failure in self._failures.items() if now < failure.due}

    @property
    def reasons(self) -> Mapping[int, str]:
        """Why each of them could not be opened."""
        return {partition: failure.reason for partition, failure in self._failures.items()}
