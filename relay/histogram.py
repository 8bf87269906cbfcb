"""Histograms of durations: counts per bucket, cheap enough for every request, commit and batch (about 0.2 us)."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from msgspec import Struct, field

QUICK: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds in seconds for work that should take milliseconds."""
SLOW: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 3600.0, 21600.0, 86400.0)
"""Bounds in seconds for work that takes milliseconds, or days if a destination is down."""


class Histogram(Struct):
    """Counts of values per bucket. A value on a bound counts below the bound. The last count is above all bounds."""

    bounds: Sequence[float]
    counts: list[int] = field(default_factory=list)
    sum: float = 0.0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    def observe(self, value: float, weight: int = 1) -> None:
        """Count a value `weight` times."""
        self.counts[bisect_left(self.bounds, value)] += weight
        self.sum += value * weight

    def __add__(self, other: "Histogram") -> "Histogram":
        """Return the sum of two histograms with the same bounds."""
        counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        return Histogram(self.bounds, counts, self.sum + other.sum)

    def copy(self) -> "Histogram":
        """Return a copy of the present counts."""
        return Histogram(self.bounds, [*self.counts], self.sum)
