"""kill -9 between the steps of an erasure: done again, it leaves the same receipt and the same books."""

import shutil
from collections import Counter
from pathlib import Path

import pytest

from relay.api import Kind
from relay.journal.outside.inspected import inspect_all
from relay.journal.outside.view import JournalView
from relay.journal.segment import MARK
from relay.state.erasure.table import FolderErasures
from relay.state.ledger import read_ledger
from relay.store import Counts
from tests.conftest import LONG
from tests.parked import list_parked
from tests.process.self_kill import harness

pytestmark = pytest.mark.slow
IDS = (b"5f3a9c0d11e2b4a6c7d8e9f0", b"anna-4711")
STEPS = {
    "pwritev",
    "pwritev, half",
    "fsync",
    "replace",
    "sql VACUUM",
    "sql PRAGMA wal_checkpoint(TRUNCATE)",
    "sql DELETE FROM parked",
    "sql UPDATE erasure SET",
    "sql COMMIT",
}
"""What at least has to be among the places of death."""


def check(folder: Path) -> None:
    """No byte of the user is left, every offset is, and the counts are as if nothing had happened."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "delivered"]
    assert [path.name for path in files if any(one in path.read_bytes() for one in IDS)] == []
    (one,) = FolderErasures(folder).read()
    assert (one.events, one.changed, one.parked, one.status, one.user.user_id) == (9, 0, 3, "done", None)
    assert [(answer.connector, answer.outcome) for answer in one.answers] == [("it", "done")]
    assert read_ledger(folder)["it"].counts == Counts(delivered=6, parked=3, erased=9)
    assert len(list_parked(folder)) == 3
    assert all(segment.is_whole for segment in inspect_all(folder / "journal", 18))
    events = [event for _, block in JournalView(folder / "journal").read() for event in block.events()]
    assert not any(one in event.body for event in events for one in IDS)
    kinds = {event.offset: event.kind for event in events}
    assert [offset for offset in range(18) if Kind.is_erased.fget(kinds[offset])] == [  # type: ignore[attr-defined]
        *(0, 2, 4),
        *(6, 8, 10),
        *(12, 14, 16),
    ]
    assert [path.name for path in folder.glob("journal/*.fresh") if path.name != MARK] == []
    assert "erased [('5f3a9c0d11e2b4a6c7d8e9f0', 'anna-4711')]" in (folder / "delivered").read_text().splitlines()


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.long  # quicker: tests/unit/erasure, and test_log in tests/unit/store
def test_a_kill_between_steps_of_an_erasure_leaves_the_same_outcome(tmp_path: Path, compress: bool) -> None:
    seen = Counter[str]()
    stride = 1 if LONG else 48
    with harness("erasure_points.py") as it:
        it.run(tmp_path / "made", makes=True, compress=compress)
        die_at, killed = 1, True
        while killed:
            folder = tmp_path / str(die_at)
            shutil.copytree(tmp_path / "made", folder)
            killed, steps = it.run(folder, die_at, compress=compress)
            seen[steps[-1]] += 1
            if killed:
                it.run(folder, compress=compress)
            check(folder)
            die_at += stride
        for step in STEPS - seen.keys():  # when each comes is a matter of time
            folder = tmp_path / step.replace("/", "_")
            shutil.copytree(tmp_path / "made", folder)
            killed, steps = it.run(folder, die_before=step, compress=compress)
            assert killed
            assert step in steps  # the last, unless another thread made a step before the kill
            seen[step] += 1
            it.run(folder, compress=compress)
            check(folder)
    print(f"{seen.total() - 1} of {die_at} places of death: {dict(seen.most_common())}")
    assert seen.keys() >= STEPS
    assert die_at > 100
