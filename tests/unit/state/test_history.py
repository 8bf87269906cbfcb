"""The table of what happened: bounded, selected, and read after anything."""

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from relay.api import User
from relay.inspect.receipts import list_receipts
from relay.state.alerts import FolderAlerts
from relay.state.database import StateDatabase
from relay.state.erasure.table import FolderErasures
from relay.state.history import FolderHistory
from relay.state.layout import make_worker_folder
from relay.state.replays import FolderReplays, save_replays
from relay.store import AlertMessage, Cursor, Entry, HistoryQuery, Replay
from relay.store.users import Wanted

NOW = time.time()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    StateDatabase(tmp_path).close()
    return tmp_path


def test_entries_are_kept_as_they_are_and_selected_by_all_that_is_given(folder: Path) -> None:
    entries = [
        Entry("failing", "connector heap", "heap fails", about={"pending": 3}, at=NOW - 20),
        Entry("paused", "connector heap", "heap was paused", "anna", at=NOW - 10),
        Entry("source_refusing", "source heap", "heap refuses", at=NOW),
    ]
    FolderHistory(folder).add(entries)
    found = FolderHistory(folder).read()
    assert [replace(one, number=0) for one in found] == entries
    assert [one.number for one in found] == [1, 2, 3]

    def selected(query: HistoryQuery) -> list[int]:
        return [one.number for one in FolderHistory(folder).read(query)]

    assert selected(HistoryQuery(subject="heap")) == [1, 2, 3]
    assert selected(HistoryQuery(subject="connector heap")) == [1, 2]
    assert selected(HistoryQuery(subject="hea")) == []
    assert selected(HistoryQuery(since=NOW - 10, subject="heap")) == [2, 3]
    assert selected(HistoryQuery(kind="paused")) == [2]
    assert selected(HistoryQuery(limit=2)) == [2, 3]


def test_what_is_too_old_or_too_much_goes_and_numbers_are_not_given_again(folder: Path) -> None:
    FolderHistory(folder).add(
        [Entry("failing", "journal", str(n), at=NOW - (1e6 if n < 50 else 0)) for n in range(100)]
    )
    FolderHistory(folder).add([Entry("failing", "journal", "new", at=NOW)], keep=9e5, most=1000)
    assert [one.number for one in FolderHistory(folder).read()] == [*range(51, 102)]
    FolderHistory(folder).add([Entry("failing", "journal", "newer", at=NOW)], most=10)
    assert [one.number for one in FolderHistory(folder).read()] == [*range(93, 103)]


def test_while_the_clock_is_ahead_nothing_goes_for_its_age(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "relay.db")) as db, db:
        db.execute("INSERT INTO journal_state (one, identity, head, time, ahead) VALUES (1, '', 0, 0, 1e6)")
    FolderHistory(folder).add([Entry("failing", "journal", "old", at=NOW - 1e6)], keep=3600.0)
    assert len(FolderHistory(folder).read()) == 1


def test_the_last_run_has_ended_by_a_stop_or_not(folder: Path) -> None:
    assert FolderHistory(folder).find_last_run() is None
    FolderHistory(folder).add([Entry("started", "relay", "", at=1.0), Entry("failing", "journal", "", at=2.0)])
    assert FolderHistory(folder).find_last_run() == ("started", 1.0)
    FolderHistory(folder).add([Entry("stopped", "relay", "", at=3.0)])
    assert FolderHistory(folder).find_last_run() == ("stopped", 3.0)
    FolderHistory(folder).add([Entry("started", "relay", "", at=4.0), Entry("restored", "relay", "", at=5.0)])
    assert FolderHistory(folder).find_last_run() == ("restored", 5.0), "what a backup was made of has not crashed"
    FolderHistory(folder).add([Entry("started", "relay", "", at=6.0), Entry("copied", "journal", "", at=7.0)])
    assert FolderHistory(folder).find_last_run() == ("copied", 7.0), "the nodes of a cluster are not this relay"


async def test_a_replay_and_an_erasure_are_done_once_and_whoever_asked_is_kept(folder: Path) -> None:
    others = make_worker_folder(folder, 1)
    StateDatabase(others, 1).close()
    number = FolderReplays(others).ask(Replay("heap", Cursor(0, 0), 5, asked_by="anna"))
    erasure = FolderErasures(folder).ask(User("someone"), "bert")
    assert FolderHistory(folder).find_done(NOW - 60) == []
    with closing(sqlite3.connect(others / "relay.db")) as db, db:
        save_replays(db, {number: Cursor(0, 5)})
        db.execute("INSERT INTO erasure (number, asked, external_ids, digests) VALUES (?, 0, '[]', '[]')", (erasure,))
    with closing(sqlite3.connect(folder / "relay.db")) as db, db:
        db.execute("UPDATE erasure SET done = ?, events = 7, parked = 2", (NOW,))
    done = FolderHistory(folder).find_done(NOW - 60)
    assert [(one.kind, one.about["asked_by"]) for one in done] == [("replay_done", "anna")]  # one worker still erases
    FolderHistory(folder).add(done)
    with closing(sqlite3.connect(others / "relay.db")) as db, db:
        db.execute("UPDATE erasure SET done = ?, events = 1", (NOW + 1,))
    (last,) = FolderHistory(folder).find_done(NOW - 60)
    assert (last.kind, last.subject, last.sentence, last.about["asked_by"]) == (
        "erased",
        f"erasure {erasure}",
        f"erasure {erasure} is done: 8 events and 2 parked removed",
        "bert",
    )
    assert "someone" not in str(last)
    FolderHistory(folder).add([last])
    assert FolderHistory(folder).find_done(NOW - 60) == []
    assert (FolderReplays(folder).read()[0].asked_by, list_receipts(FolderErasures(folder), None)[0].asked_by) == (
        "anna",
        "bert",
    )


async def test_a_user_who_is_erased_is_named_in_no_entry_and_no_message(tmp_path: Path) -> None:
    state = StateDatabase(tmp_path)
    about = {"last_error": {"reason": 'no "änn\\a"'}, "said": ["änn\\a", 7]}
    FolderHistory(tmp_path).add([Entry("failing", "connector heap", "HTTP 400: änn\\a is unknown", about=about)])
    FolderHistory(tmp_path).add([Entry("failing", "connector heap", "HTTP 400: hänn\\a is unknown")])
    message = AlertMessage("id", "chat", NOW, json.dumps({"alarms": [{"reason": 'no "änn\\a"'}]}), problem="änn\\a?")
    FolderAlerts(tmp_path).save_tracks("chat", {}, [message])
    await state.erasures.erase_users(None, Wanted({1: User("änn\\a")}), {})
    state.close()
    (sent,) = FolderAlerts(tmp_path).read(["chat"])[1]
    assert (json.loads(sent.message), sent.problem) == ({"alarms": [{"reason": 'no "..."'}]}, "...?")
    first, second = FolderHistory(tmp_path).read()
    assert first.sentence == "HTTP 400: ... is unknown"
    assert first.about == {"last_error": {"reason": 'no "..."'}, "said": ["...", 7]}
    assert second.sentence == "HTTP 400: hänn\\a is unknown"


def test_erasures_that_events_ask_for_are_counted(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "relay.db")) as db, db:
        insert = "INSERT INTO erasure (asked, type, external_ids, digests, done) VALUES (0, ?, '[]', '[]', ?)"
        db.executemany(insert, [("a.b", None), ("a.b", NOW), (None, NOW), ("a.b", 5.0)])
    assert FolderErasures(folder).count(0, NOW) == (3, 1, 4)
    assert FolderErasures(folder).count(4, NOW + 1) == (0, 0, 4)
