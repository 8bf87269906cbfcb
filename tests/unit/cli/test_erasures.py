"""`relay erasures` on a state folder with which no relay runs."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.api import Kind, OtherId, User
from relay.cli.commands.state.erasures import KEPT
from relay.cli.main import relay as cli
from relay.journal.journal import Journal
from relay.journal.segment import make_path
from relay.state.database import StateDatabase
from relay.state.erasure.table import FolderErasures, forget_ids, mark_compacted, mark_done, save_answers
from relay.store import ConnectorAnswer, Parked, make_digest
from relay.store.log import JournalLimits
from relay.testing import make_event


def relay(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["erasures", *map(str, arguments)])
    return result.exit_code, result.output


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    """With an event and a parked event of anna's."""
    journal, state = Journal(tmp_path / "journal", JournalLimits(1 << 30, 3600), 0), StateDatabase(tmp_path)
    await journal.append([Kind("braze", "t")] * 2, [make_event(user={"user_id": user}) for user in ("anna", "bert")])
    await state.park([Parked("braze", None, None, None, "unreadable", "no event", 0, b'{"who": "anna')])
    await journal.close()
    state.close()
    return tmp_path


def test_an_erasure_takes_ids_of_every_kind_and_its_receipt_shows_remarks(state: Path) -> None:
    where = ("--state", state)
    ids = ["--user-id", "anna", "--device-id", "phone", "--email", "a@example.com", "--alias", "crm:17:eu"]
    assert relay("request", *ids, *where)[0] == 0
    (one,) = FolderErasures(state).read()
    others = (OtherId("device_id", "phone"), OtherId("email", "a@example.com"), OtherId("alias:crm", "17:eu"))
    assert one.user == User("anna", (), others)
    assert len(one.digests) == 4
    code, out = relay("request", "--alias", "17", *where)
    assert (code, "is no LABEL:NAME" in out) == (2, True)
    with closing(sqlite3.connect(state / "relay.db")) as db, db:
        mark_compacted(db, [1])
        save_answers(db, {1: ConnectorAnswer("cohorts", "done", "not looked for: aliases")})
        forget_ids(db, [1])
    assert "connector  cohorts: done (not looked for: aliases)" in relay("show", 1, *where)[1]
    assert FolderErasures(state).read()[0].user == User()


def test_an_erasure_is_asked_for_and_its_receipt_names_nobody(state: Path) -> None:
    where = ("--state", state)
    assert relay("list", *where) == (0, "no erasure was ever asked for\n")
    code, out = relay("request", "--user-id", "anna", "--external-id", "a1", "--external-id", "a2", *where)
    assert code == 0
    assert out.startswith("erasure 1 asked for")
    assert "begins after the next start" in out
    assert "waiting; nothing removed yet" in relay("list", *where)[1]
    with closing(sqlite3.connect(state / "relay.db")) as db, db:
        mark_compacted(db, [1], "no room")
    assert "not yet: no room" in relay("show", 1, *where)[1]
    with closing(sqlite3.connect(state / "relay.db")) as db, db:
        mark_compacted(db, [1])
        save_answers(db, {1: ConnectorAnswer("heap", "failed", "HTTP 503")})
        save_answers(db, {1: ConnectorAnswer("heap", "failed", "HTTP 500")})
    code, out = relay("show", 1, *where)
    assert "connector  heap: failed (HTTP 500), will be tried again" in out
    assert "kept until the connectors have erased the user" in out
    with closing(sqlite3.connect(state / "relay.db")) as db, db:
        save_answers(db, {1: ConnectorAnswer("heap", "done")})
        forget_ids(db, [1])
        mark_done(db, [1])
    code, out = relay("show", 1, "--json", *where)
    shown = json.loads(out)
    assert (code, shown["status"], shown["by"]) == (0, "done", None)
    assert (shown["connectors"][0]["outcome"], shown["connectors"][0]["attempts"]) == ("done", 3)
    assert {*shown["digests"]} == {make_digest("anna"), make_digest("a1"), make_digest("a2")}
    assert json.loads(relay("list", "--json", *where)[1]) == [shown]
    assert "anna" not in relay("show", 1, *where)[1] + relay("list", *where)[1]


def test_one_that_waits_says_when_it_is_due(state: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    conf = tmp_path_factory.mktemp("conf.d")
    (conf / "erasure.toml").write_text('[erasure]\nafter = "2h"')
    where = ("--state", state, "--conf", conf)
    relay("request", "--user-id", "anna", "--state", state)
    with closing(sqlite3.connect(state / "relay.db")) as db, db:
        db.execute("UPDATE erasure SET asked = 1800000000")
    assert "due        2027-01-15T10:00:00Z" in relay("show", 1, *where)[1]
    assert "waiting; nothing removed yet; due 2027-01-15T10:00:00Z" in relay("list", *where)[1]
    assert json.loads(relay("show", 1, "--json", *where)[1])["due"] == "2027-01-15T10:00:00Z"
    (conf / "erasure.toml").write_text("[erasure]\nafter = 7 parsecs")
    assert "due        as erasure.after says" in relay("show", 1, *where)[1]
    (conf / "erasure.toml").unlink()
    with closing(sqlite3.connect(state / "relay.db")) as db, db:
        mark_compacted(db, [1])
    assert "due" not in relay("show", 1, *where)[1]
    assert json.loads(relay("show", 1, "--json", *where)[1])["due"] is None


def test_the_list_names_the_connectors_where_one_failed(state: Path) -> None:
    relay("request", "--user-id", "anna", "--state", state)
    with closing(sqlite3.connect(state / "relay.db")) as db, db:
        mark_compacted(db, [1])
        for answer in (
            ConnectorAnswer("heap", "failed", "HTTP 401"),
            ConnectorAnswer("hook", "done"),
            ConnectorAnswer("web", "failed", "busy"),
        ):
            save_answers(db, {1: answer})
    assert "at the connectors; 0 events, 0 parked; failed at heap, web\n" in relay("list", "--state", state)[1]


def test_check_finds_what_is_left_and_the_receipts(state: Path) -> None:
    where = ("--state", state)
    relay("request", "--external-id", "bert", *where)
    relay("request", "--user-id", "carl", "--external-id", "bert", *where)
    kept = f"not looked at: {KEPT}\n"
    assert relay("check", "--user-id", "anna", *where) == (
        1,
        f"1 event in the journal, 1 parked\nerasures: none\n{kept}",
    )
    assert relay("check", "--user-id", "carl", *where) == (
        0,
        f"no events in the journal, none parked\nerasures: 2\n{kept}",
    )
    assert "cohort" in kept
    code, out = relay("check", "--external-id", "bert", "--json", *where)
    assert (code, json.loads(out)) == (0, {"events": 0, "parked": 0, "erasures": [2, 1], "problems": []})


def test_check_says_where_it_could_not_look(state: Path) -> None:
    path = make_path(state / "journal", 0)
    path.write_bytes(path.read_bytes().replace(b'"bert"', b'"bort"'))
    with closing(sqlite3.connect(state / "relay.db")) as db, db:
        db.execute("REPLACE INTO cursor VALUES ('heap', 2, 0, 2, '[]', 2, 0, 0, 0, 0, 0, 0, 0)")
    code, out = relay("check", "--user-id", "carl", "--state", state)
    assert (code, "no events in the journal, none parked" in out) == (1, True)
    assert f"{path}: damaged at byte" in out
    code, out = relay("check", "--user-id", "carl", "--json", "--state", state)
    assert (code, str(path) in out) == (1, True)


@pytest.mark.parametrize("command", [["request", "--external-id"], ["check", "--user-id"]])
def test_an_id_that_is_not_utf8_is_refused(state: Path, command: list[str]) -> None:
    code, out = relay(*command, "a\udcff", "--state", state)
    assert (code, r"'a\udcff' is not UTF-8" in out) == (2, True)
    assert relay("list", "--state", state)[1] == "no erasure was ever asked for\n"


@pytest.mark.parametrize(
    "command",
    [
        *(["trace"], ["forget"], ["pause"], ["resume"], ["parked", "list", "--connector"], ["tail", "--at"]),
        *(["replay", "--connector"], ["replay", "--events"], ["journal", "dump", "--events"], ["tail", "--events"]),
    ],
)
def test_so_is_any_other_id_or_name(tmp_path: Path, command: list[str]) -> None:
    result = CliRunner().invoke(cli, [*command, "a\udcff", "--state", str(tmp_path)])
    assert (result.exit_code, r"'a\udcff' is not UTF-8" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("request",), 2, "say who"),
        (("check", "--external-id", ""), 2, "say who"),
        (("show", "7"), 1, "no erasure has the number 7"),
        (("show", "0"), 2, ""),
    ],
)
def test_what_cannot_be_meant_is_refused(state: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    found, out = relay(*arguments, "--state", state)
    assert (found, said in out) == (code, True)


@pytest.mark.parametrize(
    "command", [["list"], ["request", "--user-id", "a"], ["show", "1"], ["check", "--user-id", "a"]]
)
def test_a_folder_without_state_is_named(tmp_path: Path, command: list[str]) -> None:
    code, out = relay(*command, "--state", tmp_path)
    assert (code, "no relay has run with this state folder" in out) == (1, True)
