"""Numbers out of measurements. Pure."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Run = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured: events per request; events per second that are sent (0: as many as go); without relay?"""

    batch: int
    rate: int = 0
    bare: bool = False


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so many (0 to 1) of the values do not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def milliseconds(name: str, seconds: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile of latencies."""
    return {f"{name}_p50_ms": percentile(seconds, 0.5) * 1e3, f"{name}_p99_ms": percentile(seconds, 0.99) * 1e3}


def summary(runs: Sequence[Run]) -> dict[str, Any]:
    """Median, smallest and largest of each number over the rounds of one case; losses are added up."""
    found: dict[str, Any] = {}
    for name in runs[0]:
        values = [run[name] for run in runs]
        if name in ("lost", "duplicates", "refused"):
            found[name] = sum(values)
        else:
            found[name] = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return found
