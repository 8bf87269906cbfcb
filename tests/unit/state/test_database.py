"""The state database: parked events, their numbers and times, and the tables of an older relay."""

import asyncio
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from importlib.resources import files
from pathlib import Path

import pytest
from msgspec.structs import replace

from relay.api import User
from relay.state import attempts
from relay.state.database import StateDatabase
from relay.state.database_file import connect
from relay.state.erasure.table import FolderErasures
from relay.state.ledger import read_ledger
from relay.state.migrations import MIGRATIONS
from relay.state.parked import _MARKED, FolderParked
from relay.state.replays import FolderReplays
from relay.store import Attempts, Counts, Cursor, Parked, ParkedQuery, Pause, Replay, Unavailable
from tests.parked import drop_parked, list_parked, mark_parked
from tests.unit.state.older import AS_VERSION_9

OLD = """
CREATE TABLE cursor (connector TEXT PRIMARY KEY, head INTEGER NOT NULL, start INTEGER NOT NULL,
    position INTEGER NOT NULL, ahead TEXT NOT NULL, delivered INTEGER NOT NULL, unselected INTEGER NOT NULL,
    filtered INTEGER NOT NULL, parked INTEGER NOT NULL, expired INTEGER NOT NULL, erased INTEGER NOT NULL,
    saved REAL NOT NULL) STRICT;
CREATE TABLE parked (number INTEGER PRIMARY KEY, source TEXT NOT NULL, connector TEXT, offset INTEGER, type TEXT,
    cause TEXT NOT NULL, reason TEXT NOT NULL, attempts INTEGER NOT NULL, parked REAL NOT NULL, body BLOB NOT NULL,
    UNIQUE (connector, offset)) STRICT;
INSERT INTO cursor VALUES ('heap', 9, 0, 9, '[]', 8, 0, 0, 1, 0, 0, 1e9);
INSERT INTO parked VALUES (4, 'braze', 'heap', 7, 'a.b', 'refused', 'HTTP 400', 2, 1e9, x'7b7d');
"""


def refused(offset: int, connector: str = "heap", source: str = "braze", cause: str = "refused") -> Parked:
    return Parked(source, connector, offset, "a.b", cause, "HTTP 400", 1, b'{"n":%d}' % offset)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDatabase]:
    with closing(StateDatabase(tmp_path)) as state:
        yield state


def test_a_database_that_cannot_be_read_is_left_closed(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(sqlite3.DatabaseError, match="not a database") as caught:
        connect(tmp_path, "ro")
    assert not [one for one in Path("/proc/self/fd").iterdir() if one.exists() and one.samefile(path)], caught


async def test_a_database_of_an_older_relay_is_migrated_with_its_content(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "relay.db")) as db:
        db.executescript(OLD)
    with pytest.raises(Unavailable, match="older relay"):
        list_parked(tmp_path)
    for _ in range(2):  # the second start finds it up to date
        state = StateDatabase(tmp_path)
        await state.park([refused(8)])
        state.close()
    old, new = list_parked(tmp_path)
    assert (old.number, old.offset, old.first, old.last, old.again, old.body) == (4, 7, 1e9, 1e9, None, b"{}")
    assert (new.number, new.attempts) == (5, 2)
    assert read_ledger(tmp_path)["heap"].counts == Counts(delivered=8, parked=1)


async def test_a_ledger_of_a_relay_without_damage_counts_is_kept(tmp_path: Path) -> None:
    """Of version 9 of the tables: lanes, replays, and the view for people."""
    state = StateDatabase(tmp_path)
    await state.save({"heap": Cursor(0, 9, [(11, 12)], Counts(delivered=8, erased=2))}, 12)
    number = FolderReplays(tmp_path).ask(Replay("heap", Cursor(0, 0), 9))
    await state.save({}, 12, replays={number: Cursor(0, 4, [], Counts(expired=3, erased=1))})
    state.close()
    with closing(sqlite3.connect(tmp_path / "relay.db")) as db:
        db.executescript(f"{AS_VERSION_9} PRAGMA user_version = 9;")
    state = StateDatabase(tmp_path)
    assert await state.load_cursor("heap") == Cursor(0, 9, [(11, 12)], Counts(delivered=8, erased=2))
    await state.save({"heap": Cursor(0, 12, [], Counts(delivered=8, damaged=2, erased=2))}, 12)
    state.close()
    (replay,) = FolderReplays(tmp_path).read()
    assert replay.cursor.counts == Counts(expired=3, erased=1)
    with closing(sqlite3.connect(tmp_path / "relay.db")) as db:
        assert db.execute("SELECT damaged, erased, pending FROM ledger").fetchall() == [(2, 2, 0)]


def test_erasures_of_an_older_relay_are_kept(tmp_path: Path) -> None:
    """Of version 3 of the tables, in which an erasure had no other ids."""
    with closing(sqlite3.connect(tmp_path / "relay.db")) as db:
        db.executescript(f"{OLD} {''.join(MIGRATIONS[:3])} PRAGMA user_version = 3;")
        row = (1, 1e9, "anna", '["a1"]', '["d"]')
        db.execute("INSERT INTO erasure (number, asked, user_id, external_ids, digests) VALUES (?, ?, ?, ?, ?)", row)
        db.commit()
    StateDatabase(tmp_path).close()
    (one,) = FolderErasures(tmp_path).read()
    assert (one.number, one.user, one.digests) == (1, User("anna", ("a1",)), ["d"])


def test_a_database_of_a_newer_relay_is_left_alone(tmp_path: Path) -> None:
    StateDatabase(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "relay.db")) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(sqlite3.Error, match="newer relay"):
        StateDatabase(tmp_path)
    with pytest.raises(Unavailable, match="newer relay"):
        list_parked(tmp_path)


def test_a_database_that_cannot_be_opened_leaves_the_folder_free(tmp_path: Path) -> None:
    (tmp_path / "relay.db").write_bytes(b"no database" * 1000)
    with pytest.raises(sqlite3.Error, match="not a database"):
        StateDatabase(tmp_path)
    (tmp_path / "relay.db").unlink()
    StateDatabase(tmp_path).close()


async def test_a_selection_holds_everything_that_is_given(state: StateDatabase, tmp_path: Path) -> None:
    await state.park([refused(1), refused(2, "file"), refused(3, source="shop"), refused(4, cause="filter")])
    await state.park([Parked("braze", None, None, None, "unreadable", "no object", 0, b"7")])
    state.close()

    def numbers(**given: object) -> list[int]:
        which = ParkedQuery(**given)  # type: ignore[arg-type]
        found = [one.number for one in FolderParked(tmp_path).read(which)]
        assert FolderParked(tmp_path).count(which) == len(found)
        return found

    last = list_parked(tmp_path)[-1].last
    assert numbers() == [1, 2, 3, 4, 5]
    assert numbers(connector="heap") == [1, 3, 4]
    assert numbers(connector="heap", source="braze") == [1, 4]
    assert numbers(connector="heap", source="braze", cause="filter") == [4]
    assert numbers(since=last) == [5]
    assert numbers(numbers=[5, 2, 77]) == [2, 5]
    assert numbers(limit=2) == [1, 2]
    assert mark_parked(tmp_path, ParkedQuery()) == 4
    assert [one.number for one in list_parked(tmp_path) if one.again] == [1, 2, 3, 4]
    assert drop_parked(tmp_path, ParkedQuery(connector="heap", limit=2)) == 2
    assert numbers() == [2, 4, 5]


async def test_records_of_attempts_are_limited_in_bytes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "ATTEMPTS_KEPT_BYTES", 5000)
    state = StateDatabase(tmp_path)
    noted = [Attempts("heap", 0, [(n, n + 1)], 2, "delivered", "x" * 1000, 1.0, 1.0) for n in range(20)]
    await state.save({}, 20, attempts=noted)
    await state.forget_attempts(0)
    assert [n for n in range(20) if attempts.find_attempts_at(tmp_path, n)] == [16, 17, 18, 19]
    state.close()


async def test_one_waits_for_a_lock_and_the_others_only_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.state.database.LOCKED_S", 0.3)
    state = StateDatabase(tmp_path)
    patience = "PRAGMA busy_timeout"
    with closing(sqlite3.connect(tmp_path / "relay.db", isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        for _ in range(2):
            with pytest.raises(Unavailable, match="locked"):
                await state.park([refused(8)])
            assert await state.read(lambda db: db.execute(patience).fetchone()) == (0,)
        db.execute("ROLLBACK")
    await state.park([refused(8)])
    assert await state.read(lambda db: db.execute(patience).fetchone()) == (300,)
    state.close()


async def test_what_nobody_waits_for_any_more_is_not_parked(state: StateDatabase, tmp_path: Path) -> None:
    """Looked at: what waits for the lock, and what waits behind that."""
    with closing(sqlite3.connect(tmp_path / "relay.db", isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        for offset in (8, 9):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await state.park([refused(offset)])
        assert state.busy_for >= 0.1
        db.execute("ROLLBACK")
    await state.park([refused(10)])
    assert [one.offset for one in list_parked(tmp_path)] == [10]
    state.close()


async def test_parked_events_of_the_relay_before_parts_keep_their_numbers(tmp_path: Path) -> None:
    """Of version 7 of the tables, in which an event had one parked entry for a connector at most. A number that was
    dropped is not given again, and the totals stay right."""
    tables = files("relay.state").joinpath("schema.sql").read_text("utf-8")
    (part,) = re.findall(r" +part +INTEGER NOT NULL DEFAULT 0,.*\n", tables)
    old = tables.replace(part, "").replace("UNIQUE (connector, offset, part)", "UNIQUE (connector, offset)")
    old = re.sub(r",(.* an admin paused it\n) +until .*\n", r"\1", old)
    old = old.replace("offset, part) WHERE", "offset) WHERE")
    insert = """
        INSERT INTO parked VALUES (?, 'braze', 'heap', ?, 'a.b', 'refused', 'HTTP 400', 2, 1e9, 1e9, NULL, 'id',
                                   'time', 1e9, x'7b7d', 400, 'no', NULL, 'k')
    """
    with closing(sqlite3.connect(tmp_path / "relay.db")) as db:
        db.executescript(f"{old} {AS_VERSION_9} PRAGMA user_version = 7;")
        db.executemany(insert, [(1, 1), (2, 2), (3, 3)])
        db.execute("DELETE FROM parked WHERE number = 3")
        db.execute("INSERT INTO pause VALUES ('heap', 1e9)")
        db.commit()
    state = StateDatabase(tmp_path)
    assert await state.read_pauses() == {"heap": Pause(1e9)}
    await state.park([replace(refused(2), part=1), refused(3)])
    state.close()
    found = list_parked(tmp_path)
    assert [(one.number, one.offset, one.part) for one in found] == [(1, 1, 0), (2, 2, 0), (4, 2, 1), (5, 3, 0)]
    first = found[0]
    assert (first.status, first.answer, first.replay, first.key, first.attempts) == (400, "no", None, "k", 2)
    assert sum(total.events for total in FolderParked(tmp_path).read_totals()) == 4


async def test_events_to_resend_are_found_without_a_scan_of_all_parked_events(state: StateDatabase) -> None:
    statement, values = f"EXPLAIN QUERY PLAN {_MARKED}", {"connector": "heap", "events": 10, "among": None}
    plan = await state.read(lambda db: db.execute(statement, values).fetchall())
    assert "USING INDEX parked_due" in plan[0][3]
    assert not [step for *_, step in plan if "TEMP B-TREE" in step]
