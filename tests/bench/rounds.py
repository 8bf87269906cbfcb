"""All measurements, round after round."""

import argparse
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from cases import Case, is_asked
from figures import Run
from lasting import backlog, lasting, retain, starts
from machine import cores
from measure import measure

BARE_SECONDS: Final = 1.0
GIB: Final = 1 << 30


class Rounds:
    """What was measured so far: `runs` by name, and the `failures` to measure."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._given = given
        self.runs: dict[str, list[Run]] = {}
        self.failures: list[str] = []

    async def measure(self, cases: Sequence[Case]) -> None:
        """Measure every case once a round."""
        given = self._given
        with self._old_journal(cases) as retained:
            for number in range(1, given.rounds + 1):
                for case in cases:
                    seconds = BARE_SECONDS if case.bare and not case.rate else given.seconds
                    if retained or not case.retained:
                        await self._note(case.name, number, partial(measure, case, seconds, given.state, retained))

    async def measure_lasting(self) -> None:
        """Measure what takes longer, fewer times."""
        given = self._given
        longer: dict[str, Callable[[], Awaitable[Run]]] = {
            "cores": cores,
            "starts": partial(starts, given.state),
            "lasting": partial(lasting, given.events, given.state),
            "backlog": partial(backlog, given.events // 2, given.state),
        }
        for number in range(1, given.lasting_rounds + 1):
            for name in [name for name in longer if is_asked(name, given.only)]:
                await self._note(name, number, longer[name])

    async def _note(self, name: str, number: int, work: Callable[[], Awaitable[Run]]) -> None:
        """Add what a run finds. One that fails is told of and left out: the others are worth having."""
        print(f"round {number}: {name}", file=sys.stderr)
        try:
            found = await work()
        except Exception as error:
            traceback.print_exception(error)
            self.failures.append(f"round {number}: {name}: {error!r}")
        else:
            self.runs.setdefault(name, []).append({**found, "round": number})

    @contextmanager
    def _old_journal(self, cases: Sequence[Case]) -> Iterator[Path | None]:
        """A journal that has retained much, if a case wants one."""
        if not self._given.retain or not any(case.retained for case in cases):
            yield None
            return
        with TemporaryDirectory(prefix="relay-bench-retained-", dir=self._given.state) as folder:
            print(f"writing a journal of {self._given.retain:g} GiB", file=sys.stderr)
            retain(Path(folder), int(self._given.retain * GIB))
            yield Path(folder)
