"""Commands find the same in a state folder, whether a relay runs with it and is asked, or not."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from relay.api import User
from relay.cli.access import StateAccess, choose_access
from relay.cli.client import find_running
from relay.cli.state_options import StateOptions
from relay.client import ClientError, find_login
from relay.config.model import Config
from relay.state.database import StateDatabase
from relay.state.history import FolderHistory
from relay.store import Cursor, Parked, ParkedQuery, Replay
from tests.unit.admin.shown_daemon import Bench

NUMBERS = tuple(range(1, 2000))


def access(folder: Path) -> StateAccess:
    """Access by a configuration of defaults."""
    place = StateOptions(folder)
    vars(place)["config"] = Config()
    return choose_access(place)


def all_that_is_asked(folder: Path) -> list[Any]:
    mine = access(folder)
    email = ParkedQuery(connector="heap", source="braze", cause="refused", since=1.0, limit=2, numbers=(1, 2))
    return [
        [*mine.read_parked(ParkedQuery())],
        [*mine.read_parked(email)],
        mine.count_parked(ParkedQuery(numbers=NUMBERS)),
        mine.mark_parked(ParkedQuery(numbers=(1, 2, 3))),
        [one.number for one in mine.read_parked(ParkedQuery()) if one.again],
        mine.drop_parked(ParkedQuery(cause="filter")),
        mine.ask_replay(Replay("heap", Cursor(2, 2), 9, ("email",), 5.0, asked=1.0)),
        mine.cancel_replay(1),
        mine.cancel_replay(1),
        [(one.number, one.cursor, one.stop, [*one.entries], one.rate, one.status) for one in mine.list_replays()],
        mine.ask_erasure(User("anna", ("a1", "å"))),
        mine.ask_erasure(User(external_ids=("bert",))),
        mine.pause("heap", None),
        mine.pause("heap", None),
        mine.resume("heap"),
        mine.resume("heap"),
        mine.runs,
        msgspec.json.encode([msgspec.structs.replace(one, asked=0.0) for one in mine.list_receipts()]),
    ]


def parked() -> list[Parked]:
    return [
        Parked("braze", "heap", 3, "t", "refused", "no", 2, b'\xff\x00{"id":1}', status=400, answer="é", key="k"),
        Parked("braze", "heap", 4, "t", "filter", "no", 1, b"x" * 300_000, first=5.0, replay=7),
        Parked("braze", None, None, None, "unreadable", "no", 0, b""),
    ]


async def test_it_is_the_same_with_a_relay_and_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.state.database.time.time", lambda: 1000.0)
    found, noted = [], {}
    for name in ("with", "without"):
        bench = Bench(tmp_path / name)
        await bench.state.park(parked())
        if name == "with":
            await bench.admin.start()
        assert (find_running(tmp_path / name) is not None) is (name == "with")
        found.append(await asyncio.to_thread(all_that_is_asked, tmp_path / name))
        await bench.admin.stop()
        bench.state.close()
        entries = bench.shown.noted if name == "with" else FolderHistory(tmp_path / name).read()
        noted[name] = [(one.kind, one.subject, one.sentence, one.by, dict(one.about)) for one in entries]
    assert found[0] == found[1]
    assert noted["with"] == noted["without"]
    assert [(kind, subject, by) for kind, subject, _, by, _ in noted["with"]] == [
        ("parked_replayed", "parked events", find_login()),
        ("parked_dropped", "parked events", find_login()),
        ("replay_started", "connector heap", find_login()),
        ("replay_cancelled", "replay 1", find_login()),
        ("erasure_requested", "erasure 1", find_login()),
        ("erasure_requested", "erasure 2", find_login()),
        ("paused", "connector heap", find_login()),
        ("resumed", "connector heap", find_login()),
    ]
    assert "anna" not in str(noted)
    assert [len(one) for one in found[0][:2]] == [3, 1]
    assert found[0][2:6] == [3, 2, [1, 2], 1]


async def test_what_the_api_refuses_is_told_as_it_says_it(bench: Bench) -> None:
    def ask() -> int:
        return access(bench.shown.folder).ask_replay(Replay("hoop", Cursor(0, 0), 1))

    with pytest.raises(ClientError, match="no connector hoop runs; there are: heap"):
        await asyncio.to_thread(ask)


def test_a_socket_that_nobody_listens_on_is_no_relay(tmp_path: Path) -> None:
    StateDatabase(tmp_path).close()
    (tmp_path / "admin.sock").symlink_to(tmp_path / "gone")
    assert find_running(tmp_path) is None
