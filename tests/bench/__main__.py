"""How fast relay is on this machine: events in over HTTP, on disk before the answer, out over HTTP.

`python tests/bench` takes about four minutes, `--quick` under one. Sender and destination are processes of their own;
every event carries a number, and every accepted one must arrive. The cases take turns, so that a busy minute of the
machine meets all of them. CPU per event is the number to compare: throughput shares the machine with the load.
"""

import argparse
import asyncio
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from figures import Case, Run, summary
from machine import describe
from measure import measure
from table import render

CASES: Final = (Case(1), Case(10), Case(100), Case(10, rate=2000))
BARE_CASES: Final = (Case(1, bare=True), Case(10, bare=True), Case(100, bare=True))
BARE_SECONDS: Final = 1.0


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="python tests/bench", description=__doc__)
    parser.add_argument("--rounds", type=int, choices=range(1, 51), default=5, metavar="N", help="1 to 50")
    parser.add_argument(
        "--seconds", type=int, choices=range(1, 61), default=4, metavar="N", help="of each run: 1 to 60"
    )
    parser.add_argument("--quick", action="store_true", help="one round of two seconds each")
    parser.add_argument(
        "--connectors",
        type=int,
        choices=range(21),
        default=0,
        metavar="N",
        help="so many http connectors more: 0 to 20",
    )
    parser.add_argument("--state", type=Path, default=Path("/var/tmp"), metavar="DIR", help="a folder on a real disk")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements here")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.rounds, chosen.seconds = 1, 2
    return chosen


async def measure_all(chosen: argparse.Namespace) -> dict[Case, list[Run]]:
    """Measure every case once a round."""
    connectors = [f"number_{number}" for number in range(1 + chosen.connectors)]
    runs: dict[Case, list[Run]] = {case: [] for case in (*CASES, *BARE_CASES)}
    for number in range(1, chosen.rounds + 1):
        for case, found in runs.items():
            print(f"round {number} of {chosen.rounds}: {case}", file=sys.stderr)
            seconds = BARE_SECONDS if case.bare else chosen.seconds
            found.append(await measure(case, seconds, connectors, chosen.state))
    return runs


def conditions(chosen: argparse.Namespace, runs: Mapping[Case, Sequence[Run]]) -> str:
    """Under which conditions the numbers came about, as one paragraph."""
    about = describe()
    loops = [run["loop_ms"] for found in runs.values() for run in found]
    steals = [run["steal"] for found in runs.values() for run in found]
    return (
        f"{chosen.rounds} rounds of {chosen.seconds} s, medians (best round in brackets); http connectors: "
        f"{1 + chosen.connectors}; {runs[CASES[2]][0]['event_bytes']:.0f} bytes per event; "
        f"{about['cpus']} CPUs shared with the load; Python {about['python']}, "
        f"{', '.join(f'{name} {found}' for name, found in about['versions'].items())}.\n"
        f"The machine itself: a fixed loop took {min(loops):.0f} / {statistics.median(loops):.0f} / {max(loops):.0f} "
        f"ms (min, median, max); the hypervisor took {min(steals):.0%} / {statistics.median(steals):.0%} / "
        f"{max(steals):.0%} of the CPU time wanted."
    )


def main() -> int:
    """Measure, print, write; 1 if an accepted event did not arrive."""
    chosen = options()
    runs = asyncio.run(measure_all(chosen))
    summaries = {case: summary(found) for case, found in runs.items()}
    print(render(summaries) + "\n\n" + conditions(chosen, runs))
    if chosen.json:
        cases = [
            {"batch": case.batch, "rate": case.rate, "bare": case.bare, "runs": found, "summary": summaries[case]}
            for case, found in runs.items()
        ]
        result = {"machine": describe(), "options": vars(chosen), "cases": cases}
        chosen.json.write_text(json.dumps(result, indent=1, default=str))
    return int(any(found["lost"] for found in summaries.values()))


if __name__ == "__main__":
    sys.exit(main())
