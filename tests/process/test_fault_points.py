"""kill -9 between each pair of steps of a commit, a cursor save, a segment's making and removal, and the recovery.

`make test` takes one of 160 places of death, and one of each kind of step; `make faults` all. Half of the runs write
compressed records.
"""

from collections import Counter
from pathlib import Path

import pytest

from relay.journal.outside.inspected import inspect_all
from relay.state.journal_state import FolderDoubts
from relay.state.ledger import read_ledger
from tests.conftest import LONG
from tests.parked import list_parked
from tests.process.self_kill import harness

pytestmark = pytest.mark.slow
WINDOW = 20
STRIDE, RECOVERIES, AGAIN = (1, 6, 1) if LONG else (160, 1, 3)
STEPS = {
    "pwritev",
    "pwritev, half",
    "fdatasync",
    "fsync",
    "posix_fallocate",
    "ftruncate",
    "unlink",
    "sql BEGIN IMMEDIATE",
    "sql COMMIT",
    "sql REPLACE INTO cursor",
    "sql INSERT INTO parked",
    "sql DELETE FROM parked",
    "sql INSERT INTO journal_state",
    "sql UPDATE journal_state SET",
}
"""What at least has to be among the places of death."""


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def check(folder: Path, kills: int) -> None:
    """Nothing acknowledged is lost, nothing appears from nowhere, and the books balance."""
    delivered = Counter(lines(folder / "delivered"))
    assert set(lines(folder / "acknowledged")) <= delivered.keys()
    assert delivered.total() - len(delivered) <= WINDOW * kills
    assert list_parked(folder) == []
    books = read_ledger(folder)["it"]
    assert books.pending == 0
    assert books.accepted == books.counts.delivered == len(delivered)
    assert all(segment.is_whole for segment in inspect_all(folder / "journal", books.accepted))
    assert FolderDoubts(folder, Path("journal")).find() == []  # a crash is no damage


@pytest.mark.promise(1)
@pytest.mark.parametrize("compress", [False, pytest.param(True, marks=pytest.mark.long)])
def test_a_kill_between_any_two_steps_loses_nothing(tmp_path: Path, compress: bool) -> None:
    seen = Counter[str]()
    with harness("fault_points.py") as it:
        die_at, killed = 0, True
        while killed:
            die_at += STRIDE
            folder = tmp_path / str(die_at)
            killed, steps = it.run(folder, die_at, compress=compress)
            seen[steps[-1]] += 1
            it.run(folder, sends=False, compress=compress)
            check(folder, kills=int(killed))
        for name in STEPS - seen.keys():  # no two runs take the same steps, so a rare one may lie between two deaths
            killed, steps = it.run(tmp_path / name, die_before=name, compress=compress)
            assert killed
            assert name in steps  # the last, unless another thread made a step before the kill
            seen[name] += 1
            it.run(tmp_path / name, sends=False, compress=compress)
            check(tmp_path / name, kills=1)
    print(f"{seen.total() - 1} places of death: {dict(seen.most_common())}")
    assert seen.keys() >= STEPS
    assert die_at > 100


@pytest.mark.long  # quicker: the test above, and test_power_cut in tests/unit/journal
def test_a_kill_between_any_two_steps_of_the_recovery_loses_nothing(tmp_path: Path) -> None:
    with harness("fault_points.py") as it:
        _, steps = it.run(tmp_path / "whole", compress=True)
        between = len(steps) // RECOVERIES
        for first in range(between // 2, len(steps), between):
            folder = tmp_path / str(first)
            it.run(folder, first, compress=True)
            kills, die_at = 1, 1
            while it.run(folder, die_at, sends=False, compress=True)[0]:
                kills, die_at = kills + 1, die_at + AGAIN
            check(folder, kills)
