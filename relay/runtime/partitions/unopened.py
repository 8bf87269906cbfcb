"""The partitions that this process could not open: why, and when it tries again."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

FIRST_S: Final = 0.5
LONGEST_S: Final = 60.0
"""Seconds between two tries at most. A partition that nobody has for so long is another process's to try."""


@dataclass(slots=True)
class _Failure:
    reason: str
    tries: int = 0
    due: float = 0.0
    """When to try again, in monotonic seconds."""


class Unopened:
    """The partitions that this process could not open."""

    def __init__(self) -> None:
        self._failures: dict[int, _Failure] = {}

    def note_failure(self, partition: int, reason: str) -> float:
        """Note that a partition could not be opened; return the seconds until the next try."""
        failure = self._failures.setdefault(partition, _Failure(reason))
        pause_s = min(LONGEST_S, FIRST_S * 2.0 ** min(failure.tries, 20))
        failure.reason, failure.tries, failure.due = reason, failure.tries + 1, time.monotonic() + pause_s
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
