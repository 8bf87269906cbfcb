"""How fast relay is on this machine, against what it promises itself.

`python tests/bench` takes about twelve minutes and writes results.json, results.md and results.svg into this folder;
`--quick` takes less than one and measures fewer cases. Sender and destination are processes of their own; every event
carries a number, and every accepted one must arrive. The cases take turns, so that a busy minute of the machine meets
all of them; what is compared is compared within its round. CPU per event is the number to look at: throughput shares
the machine with the load.
"""

import argparse
import asyncio
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from compileall import compile_dir
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from cases import HAS_WORKERS, Case, chosen, is_asked
from figures import Results, Run, summary
from machine import describe
from plot import draw
from references import NGINX, NO_NGINX
from rounds import Rounds
from table import render
from targets import TARGETS

ONLY: Final = "what has TEXT, or one of several texts with | between, in its name; writes results only with --out"
NO_WORKERS: Final = "this relay has no [runtime] workers: 2 workers against 1 is not measured"
Runs = Mapping[str, Sequence[Run]]


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="python tests/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of a second each, and fewer cases")
    parser.add_argument("--only", default="", metavar="TEXT", help=ONLY)
    parser.add_argument("--rounds", type=int, metavar="N", help="7")
    parser.add_argument("--seconds", type=float, metavar="N", help="of each run: 3")
    parser.add_argument("--lasting-rounds", type=int, metavar="N", help="of what takes longer: 3")
    parser.add_argument("--events", type=int, metavar="N", help="of the lasting load: 1,000,000; half of it piles up")
    parser.add_argument("--retain", type=float, metavar="N", help="GiB of an old journal: 10; 0: none")
    parser.add_argument("--state", type=Path, default=Path("/var/tmp"), metavar="DIR", help="a folder on a real disk")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write results here; by default beside this script")
    given = parser.parse_args()
    out = None if given.only else Path(__file__).parent
    usual = (1, 1.0, 1, 300_000, 0.0, None) if given.quick else (7, 3.0, 3, 1_000_000, 10.0, out)
    names = ("rounds", "seconds", "lasting_rounds", "events", "retain", "out")
    for name, value in zip(names, usual, strict=True):
        if getattr(given, name) is None:
            setattr(given, name, value)
    return given


def conditions(given: argparse.Namespace, runs: Runs) -> str:
    """Under which conditions the numbers came about, as one paragraph."""
    about = describe()
    every = [run for found in runs.values() for run in found]
    size = next((run["event_bytes"] for run in every if "event_bytes" in run), 0)
    versions = ", ".join(f"{name} {found}" for name, found in about["versions"].items())
    cores = [run["cores"] for run in runs.get("cores", ())]
    at_once = f" All CPUs at once did the work of {statistics.median(cores):.2f}." if cores else ""
    loops, others, steals = ([run[name] for run in every] for name in ("loop_ms", "others", "steal"))
    return (
        f"Medians of {given.rounds} interleaved rounds of {given.seconds:g} s ({given.lasting_rounds} of the lasting "
        f"load of {given.events:,} events), best round in brackets; {size:.0f} bytes per event; CPU of relay's whole "
        f"process tree; {about['cpus']} CPUs shared with the load; Python {about['python']}, {versions}.\n"
        f"The machine itself (min, median, max): a fixed loop took {_spread(loops, '.0f')} ms; other processes used "
        f"{_spread(others, '.2f')} CPUs; the hypervisor took {_spread(steals, '.1%')} of the CPU time wanted.{at_once}"
    )


def _spread(values: Sequence[float], form: str) -> str:
    return " / ".join(f"{value:{form}}" for value in (min(values), statistics.median(values), max(values)))


def write(given: argparse.Namespace, cases: Sequence[Case], runs: Runs, text: str) -> None:
    """All measurements, the tables, and the picture."""
    described = [asdict(case) for case in cases]
    summaries = {name: summary(found) for name, found in runs.items()}
    result: dict[str, Any] = {"machine": describe(), "options": vars(given), "cases": described}
    result |= {"summaries": summaries, "runs": runs}
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "results.json").write_text(json.dumps(result, indent=1, default=str) + "\n")
    (given.out / "results.md").write_text(text + "\n")
    (given.out / "results.svg").write_text(draw(Results(runs)))


def list_ratios(results: Results) -> list[str]:
    """What each round has found for the targets that compare two cases."""
    found = [(target, target.values(results)) for target in TARGETS if target.unit == "x"]
    return [
        f"{target.label}, by round: {' '.join(f'{one:.2f}' for one in values)}" for target, values in found if values
    ]


async def measured(given: argparse.Namespace, cases: Sequence[Case]) -> Rounds:
    """Measure everything that was asked for."""
    rounds = Rounds(given)
    await rounds.measure(cases)
    await rounds.measure_lasting()
    return rounds


def main() -> int:
    """Measure, print, write; 1 if an accepted event did not arrive, or if something could not be measured."""
    for package in ("relay", "plugins"):  # as a package is installed: else each start may compile all of relay
        compile_dir(Path(__file__).parents[2] / package, quiet=1)
    given = options()
    cases = [case for case in chosen(given.quick) if is_asked(case.name, given.only)]
    rounds = asyncio.run(measured(given, cases))
    runs, cases = rounds.runs, [case for case in cases if case.name in rounds.runs]
    text = render(cases, Results(runs)) + "\n\n" + conditions(given, runs)
    print(text, *(list_ratios(Results(runs)) if given.only else []), sep="\n")
    print(
        *([] if HAS_WORKERS else [NO_WORKERS]),
        *([] if NGINX else [NO_NGINX]),
        *(f"failed: {failure}" for failure in rounds.failures),
        sep="\n",
    )
    if given.out:
        write(given, cases, runs, text)
    return int(bool(rounds.failures) or any(run.get("lost") for found in runs.values() for run in found))


if __name__ == "__main__":
    sys.exit(main())
