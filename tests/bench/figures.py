"""Numbers out of measurements. Pure."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Run = Mapping[str, Any]
SUMS = ("lost", "duplicates", "refused")


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
        if name in SUMS:
            found[name] = sum(values)
        else:
            found[name] = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return found


class Results:
    """All runs, by the name of what was measured; those of one round have the same number."""

    def __init__(self, runs: Mapping[str, Sequence[Run]]) -> None:
        self.runs = runs

    def of(self, name: str, figure: str) -> list[float]:
        """A figure in each round; empty if it was not measured."""
        return [run[figure] for run in self.runs.get(name, ())]

    def ratios(self, name: str, base: str, figure: str = "cpu_us") -> list[float]:
        """A figure in relation to the same figure of another case, round by round."""
        return [mine[figure] / its[figure] for mine, its in self._pairs(name, base)]

    def differences(self, name: str, base: str, figure: str = "cpu_us") -> list[float]:
        """The same by subtraction."""
        return [mine[figure] - its[figure] for mine, its in self._pairs(name, base)]

    def _pairs(self, name: str, base: str) -> list[tuple[Run, Run]]:
        bases = {run["round"]: run for run in self.runs.get(base, ())}
        return [(run, bases[run["round"]]) for run in self.runs.get(name, ()) if run["round"] in bases]
