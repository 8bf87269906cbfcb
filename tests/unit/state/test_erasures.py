"""Erasures that several workers share: all of them have to do them, by all ids that any of them knows."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from relay.api import User
from relay.state.database import StateDatabase
from relay.state.erasure.table import (
    ask_erasure,
    find_failing_erasures,
    forget_ids,
    mark_compacted,
    mark_done,
    mark_erased,
    read_erasures,
    save_answers,
    share_erasures,
)
from relay.state.layout import make_worker_folder
from relay.state.state_folder import StateFolder
from relay.store import ConnectorAnswer, Erasure, FailingErasures, make_digest


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Of two workers, the first of which is asked for anna."""
    for number in (0, 1):
        StateDatabase(make_worker_folder(tmp_path, number), number).close()
    ask_erasure(tmp_path, User("anna"))
    return tmp_path


@contextmanager
def database(folder: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(folder / "relay.db")) as db, db:
        yield db


def rows(folder: Path) -> list[Erasure]:
    with database(folder) as db:
        return read_erasures(db)


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


def test_what_fails_is_told_of_each_connector_and_once_of_all_workers(state: Path) -> None:
    other = make_worker_folder(state, 1)
    assert find_failing_erasures(state) == []
    ask_erasure(state, User("bert"))
    share_erasures(other, rows(state))
    for folder in (state, other):
        with database(folder) as db:
            db.execute("UPDATE erasure SET asked = 100 * number")
            mark_compacted(db, [1, 2], "no room")
    assert find_failing_erasures(state) == [FailingErasures(None, 2, 100.0, "no room")]
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
    assert find_failing_erasures(state) == [both, FailingErasures("hook", 1, 998.0, "busy")]
    with database(state) as db:
        mark_done(db, [1, 2])
    assert find_failing_erasures(state) == []
