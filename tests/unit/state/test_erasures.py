"""Erasures that several workers share: all of them have to do them, by all ids that any of them knows."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from relay.api import User
from relay.state.database import StateDatabase
from relay.state.erasure.table import (
    FolderErasures,
    add_erasure,
    find_unchanged,
    forget_ids,
    mark_compacted,
    mark_done,
    mark_erased,
    read_erasures,
    save_answers,
    save_found_ids,
    share_erasures,
)
from relay.state.layout import list_other_folders, make_worker_folder
from relay.state.state_folder import StateFolder
from relay.store import ConnectorAnswer, Erasure, FailingErasures, make_digest


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Of two workers, the first of which is asked for anna."""
    for number in (0, 1):
        StateDatabase(make_worker_folder(tmp_path, number), number).close()
    FolderErasures(tmp_path).ask(User("anna"))
    return tmp_path


@contextmanager
def database(folder: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(folder / "relay.db")) as db, db:
        yield db


def rows(folder: Path) -> list[Erasure]:
    with database(folder) as db:
        return read_erasures(db)


def finish(folder: Path) -> None:
    """Erase them there, by what is known there."""
    with database(folder) as db:
        mark_erased(db, read_erasures(db, "compacted IS NULL"))
        save_answers(db, {one.number: ConnectorAnswer("heap", "done") for one in read_erasures(db)})
        forget_ids(db, [1])
        mark_done(db, [1])


def test_each_worker_gets_the_erasure_once_and_it_is_done_when_all_are(state: Path) -> None:
    other = make_worker_folder(state, 1)
    assert list_other_folders(state, 0) == [other]
    assert list_other_folders(other, 1) == [state]
    for _ in range(2):
        share_erasures(other, rows(state))
    (one,) = rows(other)
    assert (one.number, one.user, one.asked, one.digests) == (
        1,
        User("anna"),
        rows(state)[0].asked,
        [make_digest("anna")],
    )
    finish(state)
    assert [(one.status, one.done) for one in FolderErasures(state).read()] == [("waiting", None)]
    finish(other)
    (one,) = FolderErasures(state).read()
    assert (one.status, [*one.workers]) == ("done", [0, 1])


def test_a_newly_learnt_id_makes_all_workers_begin_again(state: Path) -> None:
    other = make_worker_folder(state, 1)
    share_erasures(other, rows(state))
    finish(state)
    with database(other) as db:
        users = save_found_ids(db, {1: User(None, ("a1",))})
    share_erasures(state, users)
    (one,) = rows(state)
    assert (one.status, one.user, one.answers) == ("waiting", User("anna", ("a1",)), ())
    share_erasures(other, rows(state))
    assert rows(other)[0].user == User("anna", ("a1",))
    finish(state)
    share_erasures(state, users)
    assert [(one.status, one.user.user_id, len(one.digests)) for one in rows(state)] == [("done", None, 2)]


def test_what_was_done_without_knowing_all_ids_does_not_count(state: Path) -> None:
    before = rows(state)
    (known,) = before
    share_erasures(
        state,
        [
            Erasure(
                number=1,
                asked=known.asked,
                user=User("anna", ("a1",)),
                digests=[make_digest("anna"), make_digest("a1")],
            )
        ],
    )
    with database(state) as db:
        assert find_unchanged(db, before) == []
        mark_erased(db, before)
        assert read_erasures(db)[0].compacted is None
        forget_ids(db, [1])
        mark_done(db, [1])
        assert [(one.user.user_id, one.done) for one in read_erasures(db)] == [("anna", None)]
        mark_erased(db, read_erasures(db))
        assert read_erasures(db)[0].compacted


def test_what_failed_at_a_connector_is_to_be_done_until_it_is_given_up(state: Path) -> None:
    with database(state) as db:
        mark_erased(db, read_erasures(db))
        save_answers(db, {1: ConnectorAnswer("heap", "failed", "HTTP 401")})
        save_answers(db, {1: ConnectorAnswer("hook", "skipped")})
    assert not rows(state)[0].is_over([])
    assert not rows(state)[0].is_over(["hook"])
    share_erasures(
        state,
        [Erasure(number=1, asked=0.0, user=User("anna", ("a1",)), digests=[make_digest("anna"), make_digest("a1")])],
    )
    with database(state) as db:
        mark_erased(db, read_erasures(db))
    assert not rows(state)[0].is_over([]), "whoever begins again has to come to the same"
    with database(state) as db:
        for connector in ("heap", "hook"):
            db.execute(f"REPLACE INTO cursor VALUES ('{connector}', 2, 0, 2, '[]', 2, 0, 0, 0, 0, 0, 0, 0)")
    assert [StateFolder(state, Path("journal")).forget(connector).erasures for connector in ("hook", "heap")] == [0, 1]
    (one,) = rows(state)
    assert [(each.connector, each.outcome, each.reason) for each in one.answers] == [("heap", "forgotten", "HTTP 401")]
    assert one.is_over([])
    assert not one.is_over(["heap"]), "added again it is told like a new one"


def test_once_the_ids_are_forgotten_a_new_connector_is_not_waited_for(state: Path) -> None:
    with database(state) as db:
        mark_erased(db, read_erasures(db))
        assert not read_erasures(db)[0].is_over(["new"])
        forget_ids(db, [1])
    assert rows(state)[0].is_over(["new"]), "it was killed before it was done, and a connector came"


def test_the_map_forgets_who_is_named_by_external_ids_alone(state: Path) -> None:
    with database(state) as db:
        db.executemany("INSERT INTO identity VALUES (?, ?)", [("bert", "b1"), ("bert", "b2"), ("carl", "c1")])
        add_erasure(db, Erasure(asked=0.0, user=User(None, ("b1", "c1"))))
        forget_ids(db, [2])
        assert db.execute("SELECT count(*) FROM identity").fetchone() == (3,), "it is not that far"
        mark_erased(db, read_erasures(db, "number = 2"))
        forget_ids(db, [2])
        assert db.execute("SELECT * FROM identity").fetchall() == [("bert", "b2")]


def test_what_fails_is_told_of_each_connector_and_once_of_all_workers(state: Path) -> None:
    other = make_worker_folder(state, 1)
    assert FolderErasures(state).find_failing() == []
    FolderErasures(state).ask(User("bert"))
    share_erasures(other, rows(state))
    for folder in (state, other):
        with database(folder) as db:
            db.execute("UPDATE erasure SET asked = 100 * number")
            mark_compacted(db, [1, 2], "no room")
    assert FolderErasures(state).find_failing() == [FailingErasures(None, 2, 100.0, "no room")]
    for folder in (state, other):
        with database(folder) as db:
            mark_compacted(db, [1, 2])
            db.execute("UPDATE erasure SET compacted = 1000 - number")
    with database(state) as db:
        save_answers(
            db, {1: ConnectorAnswer("heap", "failed", "HTTP 401"), 2: ConnectorAnswer("heap", "failed", "HTTP 400")}
        )
        save_answers(db, {1: ConnectorAnswer("hook", "done")})
        save_answers(db, {2: ConnectorAnswer("hook", "failed", "busy")})
    both = FailingErasures("heap", 2, 998.0, "HTTP 400")
    assert FolderErasures(state).find_failing() == [both, FailingErasures("hook", 1, 998.0, "busy")]
    with database(state) as db:
        mark_done(db, [1, 2])
    assert FolderErasures(state).find_failing() == []
