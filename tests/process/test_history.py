"""What a real daemon writes into its history, and what becomes of that when it is killed, or cannot be written."""

import os
import signal
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner

from relay.cli.main import relay as cli
from relay.client import find_login
from relay.state.history import FolderHistory
from relay.store import Entry
from relay.testing import Destination, make_event
from tests.daemon import Daemon
from tests.process.test_full_disk import TABLES, disk, fill, make_events, small
from tests.process.test_workers import children

__all__ = ["disk", "small"]

ME = find_login()
SECRET = "k3y-that-nobody-may-see"
USER = "user-17-of-somebody"
HOOK = """
[connector.%s]
type = "http"
url = "%s"
token = { env = "RELAY_TEST_TOKEN" }
batch = { events = 1 }
retry = { first = "50ms", max = "100ms" }
"""


def relay(daemon: Daemon, *arguments: str) -> str:
    """Run a command in this process, which is not the daemon's."""
    result = CliRunner().invoke(cli, [*arguments, "--state", str(daemon.state)])
    return result.output


def told(daemon: Daemon) -> list[tuple[str, str, str]]:
    """Of each entry kind, subject and by whom."""
    return [(one.kind, one.subject, one.by) for one in FolderHistory(daemon.state).read()]


async def has(daemon: Daemon, *wanted: tuple[str, str, str]) -> None:
    """Wait until these entries are there."""
    await daemon.until(lambda: told(daemon), lambda found: {*wanted} <= {*found})


async def ask(daemon: Daemon, target: str, by: str, body: Any) -> None:
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(daemon.state / "admin.sock"))) as session,
        session.post(f"http://relay{target}", headers={"Relay-By": by}, json=body) as answer,
    ):
        assert answer.status == 200, await answer.text()


async def test_all_that_happens_to_a_daemon_is_told_once_and_outlasts_its_end(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELAY_TEST_TOKEN", SECRET)
    async with (
        Destination() as good,
        Destination(*[503] * 10_000) as busy,
        Destination() as closed,
        Destination() as no,
    ):
        closed.behaviour, no.behaviour = 401, 400
        await start_with_trouble(daemon, {"good": good, "busy": busy, "closed": closed, "no": no, "gone": good})
        await act_as_admin(daemon)
        await change_configuration(daemon)
        busy.script.clear()
        closed.behaviour = 200
        await recover(daemon)
        await daemon.kill()
        relay(daemon, "pause", "busy")
        before = told(daemon)
        await daemon.start()
        assert await daemon.stop() == 0
    assert told(daemon)[: len(before)] == before, "what was written stays"
    found = FolderHistory(daemon.state).read()
    assert_each_entry_is_there_once(daemon, find_asker(found))
    assert_second_start_tells_of_the_kill(daemon, found)
    assert_replays_and_erasures_are_told_of(daemon, found)
    assert_nothing_names_a_secret_or_a_user(found)
    assert_command_shows_the_same(daemon, found)


async def start_with_trouble(daemon: Daemon, destinations: dict[str, Destination]) -> None:
    """Start relay with a connector for each destination, and wait until all that fails there has its entry."""
    daemon.configure("10-source", '[source.braze]\ntype="currents"\npath="/currents"\n[erasure]\nafter = "0s"')
    for name, one in destinations.items():
        daemon.configure(f"20-{name}", HOOK % (name, one.url))
    await daemon.start()
    for number in range(3):
        assert (await daemon.post(b'{"events":[%s,7]}' % make_event(number=number)))[0] == 202
    await daemon.settled("good", 3)
    await has(
        daemon,
        ("failing", "connector busy", ""),
        ("unauthorized", "connector closed", ""),
        ("parked", "connector no", ""),
        ("parked", "source braze", ""),
    )


async def act_as_admin(daemon: Daemon) -> None:
    relay(daemon, "pause", "good")
    relay(daemon, "resume", "good")
    relay(daemon, "replay", "--connector", "good", "--yes", "--detach")
    await ask(daemon, "/erasures", f"Eve\u202e  of  {SECRET} {'x' * 300}", {"user_id": USER})
    relay(daemon, "parked", "drop", "--connector", "no", "--yes")
    relay(daemon, "accept", "clock", "--yes")


async def change_configuration(daemon: Daemon) -> None:
    """Have a reload refused, and another one remove a connector, which is then forgotten."""
    (daemon.conf / "20-gone.toml").write_text("[connector.gone]\ntypo = 1")
    await has(daemon, ("config_changed", "relay", ""))
    relay(daemon, "reload")
    (daemon.conf / "20-gone.toml").unlink()
    daemon.signal(signal.SIGHUP)
    await has(daemon, ("reloaded", "relay", "SIGHUP"))
    relay(daemon, "forget", "gone", "--yes")


async def recover(daemon: Daemon) -> None:
    """Wait until everything is well again, and until all that was asked for is done."""
    relay(daemon, "resume", "closed")
    await has(
        daemon,
        ("recovered", "connector busy", ""),
        ("recovered", "connector closed", ""),
        ("replay_done", "connector good", ""),
        ("erased", "erasure 1", ""),
        ("forgotten", "connector gone", ME),
    )


def find_asker(found: Sequence[Entry]) -> str:
    """Return by whom the erasure was requested: a name without what a terminal or a reader must not get."""
    (asker,) = [one.by for one in found if one.kind == "erasure_requested"]
    assert asker == f"Eve of ... {'x' * 89}"
    return asker


def assert_each_entry_is_there_once(daemon: Daemon, asker: str) -> None:
    expected = [
        ("started", "relay", ""),
        ("failing", "connector busy", ""),
        ("unauthorized", "connector closed", ""),
        ("parked", "connector no", ""),
        ("parked", "source braze", ""),
        ("paused", "connector good", ME),
        ("resumed", "connector good", ME),
        ("resumed", "connector closed", ME),
        ("replay_started", "connector good", ME),
        ("replay_done", "connector good", ""),
        ("erasure_requested", "erasure 1", asker),
        ("erased", "erasure 1", ""),
        ("parked_dropped", "connector no", ME),
        ("accepted", "clock", ME),
        ("config_changed", "relay", ""),
        ("reload_refused", "relay", ME),
        ("reloaded", "relay", "SIGHUP"),
        ("forgotten", "connector gone", ME),
        ("recovered", "connector busy", ""),
        ("recovered", "connector closed", ""),
        ("paused", "connector busy", ME),
        ("started", "relay", ""),
        ("stopped", "relay", ""),
    ]
    missing = Counter(expected) - Counter(told(daemon))
    beyond = {
        one for one in Counter(told(daemon)) - Counter(expected) if one[0] not in ("refusing", "parked", "expired")
    }
    assert (missing, beyond) == (Counter(), set())


def assert_second_start_tells_of_the_kill(daemon: Daemon, found: Sequence[Entry]) -> None:
    starts = [one for one in found if one.kind == "started"]
    assert [one.about["stopped_before"] for one in starts] == [None, False]
    assert "not ended by a stop" in starts[1].sentence
    assert len(daemon.logged("the last run has not ended by a stop")) == 1


def assert_replays_and_erasures_are_told_of(daemon: Daemon, found: Sequence[Entry]) -> None:
    """See what was done, and that each list says by whom."""
    assert [one.sentence for one in found if one.kind == "erased"] == [
        "erasure 1 is done: 0 events and 0 parked removed"
    ]
    assert f'"asked_by": "{find_asker(found)}"' in relay(daemon, "erasures", "list", "--json")
    assert f" by {ME}: done" in relay(daemon, "replay", "list")


def assert_nothing_names_a_secret_or_a_user(found: Sequence[Entry]) -> None:
    everything = str(found)
    assert SECRET not in everything
    assert USER not in everything


def assert_command_shows_the_same(daemon: Daemon, found: Sequence[Entry]) -> None:
    """Without a relay that runs, `relay history` shows the same, by name, kind and number."""
    lines = relay(daemon, "history").splitlines()
    assert len(lines) == len(found)
    assert lines[-1].split()[1] == "stopped"
    assert [line.split()[1] for line in relay(daemon, "history", "closed").splitlines()] == [
        "unauthorized",
        "resumed",
        "recovered",
    ]
    assert len(relay(daemon, "history", "--kind", "started").splitlines()) == 2
    assert len(relay(daemon, "history", "--limit", "3", "--since", "1h").splitlines()) == 3
    assert "nothing of that" in relay(daemon, "history", "nobody")


@pytest.mark.long  # quicker: the first test, and tests/unit/runtime
async def test_with_several_workers_the_supervisor_tells_it_once(daemon: Daemon) -> None:
    daemon.configure("10-source", '[source.braze]\ntype="currents"\npath="/currents"\n[runtime]\nworkers = 2')
    async with Destination() as good:
        daemon.configure("20-good", f'[connector.good]\ntype="http"\nurl="{good.url}"')
        await daemon.start()
        relay(daemon, "pause", "good")
        os.kill(children(daemon)[1], signal.SIGKILL)
        await has(daemon, ("worker_lost", "worker 1", ""), ("worker_recovered", "worker 1", ""))
        relay(daemon, "reload")
        assert await daemon.stop() == 0
    assert told(daemon) == [
        ("started", "relay", ""),
        ("paused", "connector good", ME),
        ("worker_lost", "worker 1", ""),
        ("worker_recovered", "worker 1", ""),
        ("reloaded", "relay", ME),
        ("stopped", "relay", ""),
    ]
    with closing(sqlite3.connect(daemon.state / "workers" / "1" / "relay.db")) as db:
        assert db.execute("SELECT count(*) FROM history").fetchone() == (0,)


async def test_what_cannot_be_written_costs_the_entry_and_no_event(daemon: Daemon) -> None:
    daemon.configure("10-source", '[source.braze]\ntype="currents"\npath="/currents"')
    async with Destination() as good:
        daemon.configure("20-good", f'[connector.good]\ntype="http"\nurl="{good.url}"')
        await daemon.start()
        with closing(sqlite3.connect(daemon.state / "relay.db", isolation_level=None)) as db:
            db.execute("ALTER TABLE history RENAME TO elsewhere")
            relay(daemon, "pause", "good")
            assert (await daemon.post(b'{"events":[%s]}' % make_event()))[0] == 202
            relay(daemon, "resume", "good")
            await daemon.settled("good", 1)
            await daemon.until(lambda: daemon.logged("entries of the history are lost"), bool)
            db.execute("ALTER TABLE elsewhere RENAME TO history")
        relay(daemon, "pause", "good")
        await has(daemon, ("paused", "connector good", ME))
        assert await daemon.stop() == 0
        assert len(good.bodies()) == 1
    assert told(daemon).count(("paused", "connector good", ME)) == 1


async def test_a_disk_that_is_full_is_told_as_far_as_there_is_room(small: Daemon, disk: Path) -> None:
    async with Destination() as hook:
        small.configure("10-all", TABLES % ("min_free = 0", hook.url))
        await small.start()
        assert (await small.post(b'{"events":[%s]}' % make_event()))[0] == 202
        stranger = fill(disk)
        accepted = [(await small.post(b'{"events":[%s]}' % b",".join(make_events(n))))[0] for n in range(100)]
        assert accepted[-1] == 503
        full = "entries of the history are lost"
        await small.until(lambda: bool(small.logged(full)) or "journal_full" in [one[0] for one in told(small)], bool)
        stranger.unlink()
        assert (await small.post(b'{"events":[%s]}' % make_event()))[0] == 202
        events = 50 * accepted.count(202) + 2
        await small.settled("hook", events)
        assert await small.stop() == 0
    assert told(small)[-1] == ("stopped", "relay", "")
