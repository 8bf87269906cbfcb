"""The database of an older relay is taken over once, as a whole, and leaves nothing behind."""

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import pytest

from relay.api import DELIVERED, User
from relay.sandbox.braze.rest_api import CohortApi, Profile
from relay.testing import MemoryStore
from relay_plugins.braze_cohorts import older_database
from relay_plugins.braze_cohorts.change import Member
from relay_plugins.braze_cohorts.keys import (
    ASKED,
    MEMBER,
    SLUG,
    TOLD,
    CohortRecord,
    SyncPart,
    encode_offset,
    make_key,
    make_part_pair,
    make_record_pair,
)
from relay_plugins.braze_cohorts.older_database import NOTE, take_over
from tests.older_cohorts import make_older_database
from tests.unit.plugins.braze_cohorts.cohort_changes import (
    change,
    connected,
    inside,
    known_cohorts,
    known_members,
    told,
)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
TARGET = "https://braze"


def expected(members: int = 30) -> Mapping[bytes, bytes]:
    """Return the pairs of `make_older_database`."""
    users = [f"user-{number:05}" for number in range(members)]
    carts = CohortRecord("Carts", 1000.0, 2000.0, "task-1", members, TARGET, "carts", 4, 2, "no such user")
    other = CohortRecord("8", 1001.0, 1001.0, "", 2, "https://elsewhere")
    pairs = {make_key(MEMBER, "7", "external_id", user): encode_offset(at) for at, user in enumerate(users)}
    pairs |= {
        make_key(MEMBER, "8\0", "alias:crm", "a\0b"): encode_offset(-5),
        make_key(MEMBER, "8\0", "device_id", "phone"): encode_offset(9),
        make_key(ASKED, "7", "external_id", "stranger"): TARGET.encode(),
        make_key(ASKED, "8\0", "external_id", "ghost"): b"https://x",
        make_key(SLUG, "carts"): b"7",
    }
    pairs |= {make_key(TOLD, "7", "external_id", user): encode_offset(25) for user in users[:3]}
    pairs |= [make_part_pair("7", SyncPart("half", 1, part, 3, 20 + part)) for part in (0, 2)]
    for cohort, record in (("7", carts), ("8\0", other), ("new", CohortRecord(errors=1, last_error="no such cohort"))):
        pairs |= make_record_pair(cohort, record)
    return pairs


class Killed(Exception):
    """Stands for the end of the process."""


class Mortal(MemoryStore):
    """A store that fails at its Nth write: before it, or after it."""

    def __init__(self, pairs: dict[bytes, bytes]) -> None:
        super().__init__()
        self.pairs, self.left, self.dies_after = pairs, -1, False

    async def write(self, puts: Mapping[bytes, bytes] | None = None, deletes: object = ()) -> None:
        self.left -= 1
        if self.left == 0 and not self.dies_after:
            raise Killed
        await super().write(puts, deletes)  # type: ignore[arg-type]
        if self.left == 0:
            raise Killed


async def run_blocking(work: Callable[[*Ts], T], *arguments: *Ts) -> T:
    await asyncio.sleep(0)
    return work(*arguments)


async def test_every_table_is_taken_over_once(tmp_path: Path) -> None:
    path, store = make_older_database(tmp_path, TARGET), MemoryStore()
    assert await take_over(path, store, TARGET, run_blocking)
    assert store.pairs == expected()
    assert not path.parent.exists(), "neither the database nor its log"
    assert not await take_over(path, store, TARGET, run_blocking)
    assert store.pairs == expected()


async def test_other_databases_in_the_folder_stay(tmp_path: Path) -> None:
    path, other = (make_older_database(tmp_path, TARGET, connector=name) for name in ("braze", "other"))
    await take_over(path, MemoryStore(), TARGET, run_blocking)
    assert (path.exists(), other.exists()) == (False, True)


@pytest.mark.parametrize("dies_after", [False, True])
async def test_a_kill_at_any_write_loses_nothing_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_after: bool
) -> None:
    monkeypatch.setattr(older_database, "ROWS", 4)
    writes = 0
    while True:
        writes += 1
        folder = tmp_path / str(writes)
        folder.mkdir()
        path, store = make_older_database(folder, TARGET), Mortal({b"of before": b"1"})
        store.left, store.dies_after = writes, dies_after
        try:
            await take_over(path, store, TARGET, run_blocking)
        except Killed:
            assert [key for key in store.pairs if key.startswith(b"cohort\0")] == [] or len(store.pairs) >= len(
                expected()
            ), "all of the cohorts, or none"
            await take_over(path, store, TARGET, run_blocking)
        else:
            break
        assert store.pairs == expected()
        assert not path.exists()
    assert writes > 12


async def test_a_database_of_an_older_relay_that_ran_in_between_counts(tmp_path: Path) -> None:
    store = MemoryStore()
    await take_over(make_older_database(tmp_path, TARGET, 50), store, TARGET, run_blocking)
    await take_over(make_older_database(tmp_path, TARGET, 20), store, TARGET, run_blocking)
    assert store.pairs == expected(20)


async def test_a_database_that_has_changed_is_taken_over_from_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older relay ran in between, and was killed: what it changed is in the log of SQLite alone."""
    monkeypatch.setattr(older_database, "ROWS", 4)
    store = Mortal({})
    store.left = 6
    path = make_older_database(tmp_path, TARGET)
    with pytest.raises(Killed):
        await take_over(path, store, TARGET, run_blocking)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        about = path.stat()
        with db:
            db.execute("DELETE FROM member WHERE id IN ('user-00000', 'user-00029')")
            db.execute("INSERT INTO member VALUES ('7', 'external_id', 'user-00029', 29), ('7', 'external_id', 'a', 1)")
        assert path.stat().st_mtime_ns == about.st_mtime_ns
        shutil.copytree(path.parent, tmp_path / "killed")
    shutil.rmtree(path.parent)
    (tmp_path / "killed").rename(path.parent)
    await take_over(path, store, TARGET, run_blocking)
    assert make_key(MEMBER, "7", "external_id", "a") in store.pairs
    assert make_key(MEMBER, "7", "external_id", "user-00000") not in store.pairs


async def test_a_database_that_is_gone_in_the_middle_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(older_database, "ROWS", 4)
    store = Mortal({})
    store.left = 6
    path = make_older_database(tmp_path, TARGET)
    with pytest.raises(Killed):
        await take_over(path, store, TARGET, run_blocking)
    assert NOTE in store.pairs
    path.unlink()
    assert not await take_over(path, store, TARGET, run_blocking)
    assert store.pairs == {}


async def test_a_database_from_before_targets_were_kept_is_taken_as_sent(tmp_path: Path) -> None:
    path, store = make_older_database(tmp_path, TARGET), MemoryStore()
    with closing(sqlite3.connect(path)) as db:
        for table in ("target", "slug", "asked", "told", "left_out", "error"):
            db.execute(f"DROP TABLE {table}")
    await take_over(path, store, TARGET, run_blocking)
    record = CohortRecord("Carts", 1000.0, 2000.0, "task-1", 30, TARGET)
    assert {store.pairs[key] for key in make_record_pair("7", record)} == {*make_record_pair("7", record).values()}


async def test_an_id_that_no_braze_has_is_left_out(tmp_path: Path) -> None:
    path, store = make_older_database(tmp_path, TARGET), MemoryStore()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("INSERT INTO member VALUES ('7', 'external_id', ?, 1)", ("x" * 50_000,))
    await take_over(path, store, TARGET, run_blocking)
    assert store.pairs == expected()


async def test_a_damaged_database_says_what_to_do(tmp_path: Path) -> None:
    path, store = make_older_database(tmp_path, TARGET), MemoryStore()
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(OSError, match=r"braze\.db: file is not a database; if it is damaged, restore it"):
        await take_over(path, store, TARGET, run_blocking)
    assert path.exists()


async def test_a_connector_goes_on_with_what_it_took_over(tmp_path: Path) -> None:
    users = [f"user-{number:05}" for number in range(40)]
    async with CohortApi([Profile(user) for user in users]) as api:
        target = f"{api.url} heap 'ignored'"
        make_older_database(tmp_path, target)
        (tmp_path / "stores").mkdir()
        async with connected(api, tmp_path) as braze:
            assert not (tmp_path / "cohorts").exists()
            assert await told(braze, change(users[:31])) == [DELIVERED]
            assert inside(api) == {*users[:31]}, "the target is another Braze: everybody, and the new one"
            (first, _) = known_cohorts(tmp_path)
            assert (first.members, first.errors, first.left_out) == (31, 2, 4)
            assert known_members(tmp_path, "8\0") == [Member("alias:crm", "a\0b"), Member("device_id", "phone")]
            assert await braze.erase([User(None, (users[3],))])
            assert known_cohorts(tmp_path)[0].members == 30
        assert not any(users[3].encode() in path.read_bytes() for path in (tmp_path / "stores").iterdir())
