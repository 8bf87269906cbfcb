"""What relay promises itself, and how what was measured compares. Pure."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from cases import FOR_EVERY_EVENT, ON_ONE_CPU, RESHAPE
from figures import Results

Verdict = Literal["met", "met when busy", "not met", "not measured"]
SAME: Final = 10.0
"""Percent: cost that does not grow, measured on a machine that is not quiet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One row: a bound, and the figures of each round that it is about."""

    label: str
    unit: str
    bound: float
    busy: float | None = None
    """The bound beside a busy neighbour."""
    at_least: bool = False
    values: Callable[[Results], Sequence[float]]
    form: str = ",.1f"

    def measured(self, results: Results) -> float | None:
        """The median over the rounds; None if nothing was measured."""
        values = self.values(results)
        return statistics.median(values) if values else None

    def verdict(self, results: Results) -> Verdict:
        """Whether it is met."""
        found = self.measured(results)
        if found is None:
            return "not measured"
        if self._keeps(found, self.bound):
            return "met"
        return "met when busy" if self.busy is not None and self._keeps(found, self.busy) else "not met"

    def _keeps(self, found: float, bound: float) -> bool:
        return found >= bound if self.at_least else found <= bound

    def share(self, results: Results) -> float | None:
        """How much of what is allowed is used up: at most 1 if the target is met."""
        found = self.measured(results)
        if found is None:
            return None
        return self.bound / found if self.at_least else max(0.0, found / self.bound)

    def show(self, value: float) -> str:
        """A value with its unit."""
        return f"{value:{self.form}} {self.unit}".strip()

    def wanted(self) -> str:
        """The bound, as text."""
        sign = "≥" if self.at_least else "≤"
        busy = "" if self.busy is None else f" ({self.busy:{self.form}} busy)"
        return f"{sign} {self.show(self.bound)}{busy}"


Values = Callable[[Results], Sequence[float]]


def figure(name: str, what: str = "cpu_us") -> Values:
    """A figure as it is."""
    return lambda results: results.of(name, what)


def more(name: str, base: str) -> Values:
    """CPU per event in percent beyond that of the case it is compared with."""
    return lambda results: [(ratio - 1) * 100 for ratio in results.ratios(name, base)]


def in_floors(name: str, connections: int) -> Values:
    """CPU per event in relation to what a request costs the floor."""
    return lambda results: results.ratios(name, f"floor, {connections} connections")


def times(name: str, base: str) -> Values:
    """Events per second in relation to those of the case it is compared with."""
    return lambda results: results.ratios(name, base, "accepted_per_s")


def _per_changed(kind: str) -> Values:
    """CPU of a filter of this kind for each event that the filter changes; `keep`: for each event that it reads."""
    name = f"{kind}, batch 100"

    def find(results: Results) -> list[float]:
        shares = [1.0] if kind in FOR_EVERY_EVENT else results.of(name, "with_user_id")[:1]
        return [each / share for share in shares for each in results.differences(name, "batch 100")]

    return find


def _on_two_cores(batch: int) -> Values:
    """Events per second of two workers with a core each, in relation to one worker with one core. A worker that fills
    its core is as fast as an event is cheap."""
    one, two = (f"{name}, batch {batch}" for name in ON_ONE_CPU)
    return lambda results: [2 * ratio for ratio in results.ratios(one, two)]


def _ack_to_disk(results: Results) -> list[float]:
    runs = results.runs.get("2,000/s, batch 10", ())
    return [run["ack_p99_ms"] / run["disk_p99_ms"] for run in runs]


def _many_to_one(results: Results) -> list[float]:
    return [run["status_of_many_s"] / run["status_s"] for run in results.runs.get("starts", ())]


def _slowdown(results: Results) -> list[float]:
    return [(ratio - 1) * 100 for ratio in results.of("lasting", "last_to_second")]


def _growth(results: Results) -> list[float]:
    return [growth * 100 for growth in results.of("backlog", "memory_growth")]


SMALL: Final = (
    ("batch 1, 16 connections", 16, 1.8),
    ("batch 1, 64 connections", 64, 1.5),
    ("batch 10, 16 connections", 16, 0.22),
    ("batch 100, 16 connections", 16, 0.1),
)
"""A case, the connections of its floor, and the bound of their ratio."""
CPU: Final = "µs/event"
STEADY: Final = "2,000/s, batch 10"
MORE: Final = (
    ("each further http connector, batch 100", 35, "a further http connector, batch 100", "batch 100"),
    ("each further http connector, batch 10", 35, "a further http connector, batch 10", "batch 10"),
    ("a connector with half the types beside it", 25, "half the types beside, batch 100", "batch 100"),
    ("half the types instead of all", 25, "half the types alone, batch 100", "batch 100"),
    ("a file connector beside it", 25, "file beside, batch 100", "batch 100"),
    ("CPU of compression, batch 100", SAME, "compressed, batch 100", "batch 100"),
    ("10 GiB retained", SAME, "10 GiB retained, batch 100", "batch 100"),
    ("50 connectors, one matches, batch 100", SAME, "50 connectors, batch 100", "batch 100"),
    ("50 connectors, one matches, batch 10", SAME, "50 connectors, batch 10", "batch 10"),
    ("50 connectors, one matches, at 2,000/s", SAME, "2,000/s with 50 connectors, batch 10", STEADY),
    ("1,000 entries in a selection", SAME, "1,000 entries, batch 100", "batch 100"),
)
"""What costs more CPU per event than another case: a label, the bound in percent, and the names of both cases."""
TARGETS: Final = (
    Target(label="batch 100", unit=CPU, bound=6, busy=9, values=figure("batch 100")),
    Target(label="batch 10", unit=CPU, bound=12, busy=16, values=figure("batch 10")),
    Target(label="batch 1", unit=CPU, bound=75, busy=110, values=figure("batch 1")),
    *(
        Target(label=f"{name}, in floors", unit="x", bound=bound, form=".2f", values=in_floors(name, connections))
        for name, connections, bound in SMALL
    ),
    *(
        Target(label=label, unit="%", bound=bound, form="+.0f", values=more(name, base))
        for label, bound, name, base in MORE
    ),
    *(
        Target(label=f"{kind}, per changed event", unit="µs", bound=bound, form="+.1f", values=_per_changed(kind))
        for kind, bound in {"redact": 4, **dict.fromkeys(RESHAPE, 5)}.items()
    ),
    Target(label="heap in mode api, all in all", unit=CPU, bound=15, values=figure("heap api, batch 100")),
    Target(label="s3 as ndjson, all in all", unit=CPU, bound=15, values=figure("s3, batch 100")),
    Target(label="postgres, all in all", unit=CPU, bound=20, values=figure("postgres, batch 100")),
    *(
        Target(
            label=f"2 workers against 1, batch {batch}",
            unit="x",
            bound=1.4,
            at_least=True,
            form=".2f",
            values=times(f"2 workers, batch {batch}", f"batch {batch}"),
        )
        for batch in (1, 10)
    ),
    *(
        Target(
            label=f"CPU per event of 2 workers, batch {batch}",
            unit="%",
            bound=10,
            form="+.0f",
            values=more(f"2 workers, batch {batch}", f"batch {batch}"),
        )
        for batch in (1, 10)
    ),
    *(
        Target(
            label=f"2 workers on two cores, simulated, batch {batch}",
            unit="x",
            bound=1.7,
            at_least=True,
            form=".2f",
            values=_on_two_cores(batch),
        )
        for batch in (1, 10)
    ),
    Target(label="end to end at 2,000/s, p50", unit="ms", bound=3, values=figure(STEADY, "end_to_end_p50_ms")),
    Target(label="end to end at 2,000/s, p99", unit="ms", bound=6, values=figure(STEADY, "end_to_end_p99_ms")),
    Target(
        label="end to end p99 with a console and four live pages",
        unit="x",
        bound=1.2,
        form=".2f",
        values=lambda results: results.ratios("2,000/s with a console, batch 10", STEADY, "end_to_end_p99_ms"),
    ),
    Target(
        label="end to end p99 beside relay diff",
        unit="x",
        bound=1.2,
        form=".2f",
        values=lambda results: results.ratios("2,000/s beside relay diff, batch 10", STEADY, "end_to_end_p99_ms"),
    ),
    Target(label="ack p99 at 2,000/s, in fdatasync p99", unit="x", bound=2.5, form=".2f", values=_ack_to_disk),
    Target(
        label="a lasting load, CPU of its last fifth against the second",
        unit="%",
        bound=SAME,
        form="+.0f",
        values=_slowdown,
    ),
    Target(label="memory under it", unit="MB", bound=150, form=".0f", values=figure("lasting", "peak_mb")),
    Target(label="memory growth, destination dead", unit="%", bound=SAME, form="+.1f", values=_growth),
    Target(label="memory when idle", unit="MB", bound=55, form=".0f", values=figure("starts", "idle_mb")),
    Target(
        label="drain of a backlog beside live events",
        unit="events/s",
        bound=90_000,
        at_least=True,
        form=",.0f",
        values=figure("backlog", "drained_per_s"),
    ),
    Target(label="start to ready, empty", unit="s", bound=0.45, form=".2f", values=figure("starts", "ready_s")),
    Target(label="CPU of that start", unit="s", bound=0.45, form=".2f", values=figure("starts", "ready_cpu_s")),
    Target(
        label="start to ready, with the backlog", unit="s", bound=1.5, form=".2f", values=figure("backlog", "ready_s")
    ),
    Target(label="relay --help", unit="s", bound=0.15, form=".2f", values=figure("starts", "help_s")),
    Target(
        label="relay status with 16 workers against one",
        unit="x",
        bound=2,
        form=".2f",
        values=_many_to_one,
    ),
    Target(label="relay check on conf.d", unit="s", bound=0.5, form=".2f", values=figure("starts", "check_s")),
    Target(
        label="bytes on disk of events, compressed",
        unit="x",
        bound=0.2,
        form=".2f",
        values=lambda results: results.ratios("compressed, batch 100", "batch 100", "journal_bytes"),
    ),
)
