"""kill -9 between the steps of a connector's store: a write is there as a whole, a database is taken over once."""

import asyncio
import shutil
from pathlib import Path

import pytest

from relay.state.plugin_store import EmbeddedStores, StoreFile
from relay_plugins.braze_cohorts.change import Member
from relay_plugins.braze_cohorts.keys import COHORT, make_prefix
from relay_plugins.braze_cohorts.queries import read_cohorts, read_members
from tests.conftest import LONG
from tests.older_cohorts import make_older_database
from tests.process.self_kill import harness

pytestmark = pytest.mark.slow
WRITES, KEYS = 4, 30
TARGET = "https://braze"
MEMBERS = 90


async def read_all(folder: Path, type: str, connector: str) -> dict[bytes, bytes]:
    store = StoreFile(folder, type, connector)
    found = dict(await store.scan(b"", limit=10_000))
    await store.close()
    return found


@pytest.mark.long  # quicker: test_plugin_store in tests/unit/state
def test_a_write_is_there_as_a_whole_after_a_kill(tmp_path: Path) -> None:
    died, ended = 0, False
    with harness("plugin_store_points.py") as it:
        while not ended:
            died += 1
            folder = tmp_path / str(died)
            ended = not it.run(folder, died, takes_over=False)[0]
            written = (
                len((folder / "acknowledged").read_text().splitlines()) if (folder / "acknowledged").exists() else 0
            )
            found = asyncio.run(read_all(folder, "crm", "mine"))
            groups = {key.partition(b"/")[0] for key in found}
            assert groups <= {b"%d" % (written - 1), b"%d" % written}, "what was acknowledged is there"
            assert len(groups) == 1 or not written
            assert len(found) in (0, KEYS)
            shutil.rmtree(folder)
    assert written == WRITES
    assert died > 4 * WRITES


@pytest.mark.long  # quicker: test_older_database in tests/unit/plugins/braze_cohorts
def test_a_takeover_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    make_older_database(whole, TARGET, MEMBERS)
    with harness("plugin_store_points.py") as it:
        shutil.copytree(whole, tmp_path / "0")
        is_killed, steps = it.run(tmp_path / "0", takes_over=True)
        assert not is_killed
        expected = asyncio.run(read_all(tmp_path / "0", "braze_cohorts", "braze"))
        assert {"sql BEGIN IMMEDIATE", "sql COMMIT", "unlink", "fsync"} <= {*steps}
        for number in range(1, len(steps) + 1, 1 if LONG else 12):
            folder = tmp_path / str(number)
            shutil.copytree(whole, folder)
            assert it.run(folder, number, takes_over=True)[0]
            seen = [
                key
                for key in asyncio.run(read_all(folder, "braze_cohorts", "braze"))
                if key.startswith(make_prefix(COHORT))
            ]
            assert len(seen) in (0, 3), "nobody sees a part of the cohorts"
            it.run(folder, number // 2, takes_over=True)  # a second kill, before the place of the first
            assert not it.run(folder, takes_over=True)[0]
            assert asyncio.run(read_all(folder, "braze_cohorts", "braze")) == expected
            assert not (folder / "cohorts").exists()
            shutil.rmtree(folder)
    with EmbeddedStores(tmp_path / "0").read("braze_cohorts", "braze") as store:
        assert [(one.id, one.members) for one in read_cohorts(store)] == [("7", MEMBERS), ("8\0", 2)]
        assert read_members(store, "7") == [Member("external_id", f"user-{number:05}") for number in range(MEMBERS)]
