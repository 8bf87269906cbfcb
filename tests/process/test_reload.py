"""Reload: what changed goes over to the new configuration, the rest notices nothing, and no sender is ever refused."""

import asyncio
import os
import signal
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from click.testing import CliRunner

from relay.cli.main import relay as cli
from relay.status.reload_result import DISABLED, NOT_FOUND
from relay.testing import Destination, make_event
from tests.conftest import LONG
from tests.daemon import Daemon
from tests.process.tables import CHAT

SOURCE = '[source.braze]\ntype = "currents"\npath = "/currents"\n'

MOODY = """
from relay.api import Connector, ConnectorSettings

class Moody(Connector, type="moody"):
    class Settings(ConnectorSettings):
        mood: str = "good"

    @property
    def local_path(self):
        if self.settings.mood == "bad" and self.worker == %d:
            raise RuntimeError("moody")

    async def deliver(self, batch):
        pass
"""


class Watched(Destination):
    """Remembers by which connections requests came."""

    def __init__(self) -> None:
        super().__init__()
        self.connections: set[Any] = set()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        self.connections.add(request.transport.get_extra_info("peername"))
        return await super()._handle(request)


def hook(daemon: Daemon, name: str, url: str, more: str = "") -> None:
    daemon.configure(f"20-{name}", f'[connector.{name}]\ntype = "http"\nurl = "{url}"\n{more}')


def numbered(*numbers: int) -> bytes:
    events = [orjson.loads(make_event(number=number)) for number in numbers]
    return orjson.dumps({"events": events})


def numbers_at(destination: Destination) -> list[int]:
    return [event["properties"]["number"] for event in destination.events()]


async def relay(daemon: Daemon, *arguments: str) -> tuple[int, str, str]:
    """Run a command in this process, which is not the daemon's: exit code, output, errors."""
    given = [*arguments, "--state", str(daemon.state)]
    async with asyncio.timeout(90):
        result = await asyncio.to_thread(CliRunner().invoke, cli, given)
    return result.exit_code, result.stdout, result.stderr


async def test_connectors_come_change_and_go_while_others_notice_nothing(daemon: Daemon) -> None:
    async with Watched() as kept, Watched() as changed, Destination() as added:
        daemon.configure("10-source", SOURCE)
        hook(daemon, "kept", kept.url)
        hook(daemon, "changed", changed.url)
        hook(daemon, "removed", changed.url + "?removed", 'events = ["email"]')
        await daemon.start()
        await daemon.post(numbered(1))
        await kept.received(1)
        await daemon.settled("changed", 1)

        hook(daemon, "changed", changed.url, "[connector.changed.headers]\nx-new = 'yes'")
        hook(daemon, "added", added.url, 'from = "oldest"')
        (daemon.conf / "20-removed.toml").unlink()
        code, out, _ = await relay(daemon, "reload")
        assert code == 0
        said = ("added: added", "changed: changed: headers", "removed: removed")
        assert out.splitlines() == [f"connector {one}" for one in said]
        await daemon.post(numbered(2))
        await kept.received(2)
        await added.received(2)
        await daemon.settled("changed", 2)
        assert changed.requests[-1].headers["x-new"] == "yes"
        assert len(kept.connections) == 1, "its lane and its connection went on"
        assert (await relay(daemon, "reload"))[:2] == (0, "nothing has changed\n")

        hook(daemon, "removed", changed.url + "?removed", 'events = ["email"]')
        assert (await relay(daemon, "reload"))[0] == 0
        await daemon.settled("removed", 2)
        told = [request.bodies() for request in changed.requests if request.target == "/?removed"]
        assert len([body for bodies in told for body in bodies]) == 2, "it goes on where it was: each event once"
        assert await daemon.stop() == 0


@pytest.mark.long
async def test_a_thousand_types_of_ones_own_are_no_hindrance(daemon: Daemon) -> None:
    """A start and a reload take seconds; the log has the first warnings and how many more there are."""
    types = ",\n".join(f'"Product Viewed {number}"' for number in range(1000))
    own = '[source.own]\ntype = "json"\npath = "/own"\n'
    connector = '[connector.archive]\ntype = "file"\npath = "a.ndjson"'
    daemon.configure("10-own", f"{own}{connector}\nevents = [\n{types}\n]\n")
    await daemon.start()
    assert len([line for line in daemon.logs if line["message"].startswith("configuration: ")]) == 21
    assert daemon.logged("configuration: 982 more warnings, see relay check")
    assert (await relay(daemon, "reload"))[:2] == (0, "nothing has changed\n")
    assert (await daemon.post(make_event("Product Viewed 999"), "/own"))[0] == 202
    await daemon.settled("archive", 1)
    assert daemon.ledger()["archive"].counts.delivered == 1


async def test_a_fifo_among_the_files_keeps_no_reload_and_no_stop_waiting(daemon: Daemon) -> None:
    daemon.configure("10-source", SOURCE)
    await daemon.start()
    os.mkfifo(daemon.conf / "20-fifo.toml")
    code, _, error = await relay(daemon, "reload")
    assert (code, "20-fifo.toml: is a FIFO, not a file" in error) == (78, True)
    (daemon.conf / "20-fifo.toml").unlink()
    assert (await relay(daemon, "reload"))[0] == 0
    os.mkfifo(daemon.conf / "20-fifo.toml")
    assert (await relay(daemon, "reload"))[0] == 78
    assert await daemon.stop() == 0


@pytest.mark.promise(7)
async def test_a_bad_configuration_is_named_by_file_and_line_and_changes_nothing(daemon: Daemon) -> None:
    async with Watched() as kept, Destination() as other:
        daemon.configure("10-source", SOURCE)
        hook(daemon, "kept", kept.url)
        await daemon.start()
        hook(daemon, "other", other.url)
        hook(daemon, "kept", kept.url, "timout = '1s'")
        code, out, error = await relay(daemon, "reload")
        assert (code, out) == (78, "")
        assert "20-kept.toml:4: connector.kept.timout: unknown key (did you mean timeout?)" in error
        (refused,) = await daemon.until(lambda: daemon.logged("configuration not reloaded, the old one goes on"), bool)
        assert refused["mistakes"][0].startswith("20-kept.toml:4: ")
        for command in ("status", "doctor"):
            code, said, _ = await relay(daemon, command)
            assert (code, "the configuration before goes on: 20-kept.toml:4: " in said) == (1, True), said

        hook(daemon, "kept", kept.url)
        daemon.plugins.joinpath("closed.py").write_text("raise SystemExit('not read again')")
        daemon.configure("30-file", '[connector.file]\ntype = "closed"')
        assert (await relay(daemon, "reload"))[0] == 78
        await daemon.post(numbered(1))
        await kept.received(1)
        assert not other.requests
        (daemon.conf / "30-file.toml").unlink()
        assert (await relay(daemon, "reload"))[0] == 0
        assert (await relay(daemon, "status"))[0] == 0
        assert await daemon.stop() == 0


async def test_a_hangup_reloads_and_what_takes_a_restart_is_said(daemon: Daemon) -> None:
    async with Destination() as destination:
        daemon.configure("10-source", SOURCE + "tokens = [{ env = 'HOME' }]")
        hook(daemon, "hook", destination.url)
        await daemon.start()
        assert (await daemon.post(numbered(1)))[0] == 401
        daemon.configure("10-source", SOURCE)
        daemon.configure("11-more", '[source.more]\ntype = "json"\npath = "/more"')
        daemon.configure("12-old", SOURCE.replace("braze", "old").replace("/currents", "/old"))
        daemon.configure("05-runtime", "[runtime]\nworkers = 2\n[journal]\nretention = '1h'")
        daemon.signal(signal.SIGHUP)
        await daemon.until(lambda: daemon.logged("configuration reloaded"), bool)
        assert daemon.logged("configuration reloaded")[0]["changes"] == [
            "source braze: changed",
            "source more: added",
            "source old: added",
            "journal.retention: changed",
            "runtime.workers: takes a restart",
        ]
        assert (await daemon.post(numbered(1)))[0] == 202
        assert (await daemon.post(make_event(number=2), "/more"))[0] == 202
        await destination.received(2)

        (daemon.conf / "11-more.toml").unlink()
        (daemon.conf / "12-old.toml").unlink()
        daemon.configure("10-source", SOURCE.replace("/currents", "/elsewhere"))
        daemon.configure("05-runtime", "[ingest]\nmax_body = '1KiB'")
        code, out, _ = await relay(daemon, "reload")
        assert (code, out.splitlines()) == (
            0,
            [
                "source braze: changed",
                f"warning: source more: removed; {NOT_FOUND}",
                f"warning: source old: removed; {NOT_FOUND}, {DISABLED}",
                "ingest.max_body: changed",
                "journal.retention: changed",
                "runtime.workers: needs no restart any more",
            ],
        )
        assert (await daemon.post(numbered(3), "/currents"))[0] == 404
        assert (await daemon.post(numbered(3), "/elsewhere"))[0] == 202
        assert (await daemon.post(numbered(*range(20)), "/elsewhere"))[0] == 413
        assert await daemon.stop() == 0


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
async def test_pending_events_of_a_removed_connector_show_until_it_is_forgotten(daemon: Daemon, workers: int) -> None:
    daemon.configure("05-runtime", f"[runtime]\nworkers = {workers}")
    daemon.configure("10-source", SOURCE)
    async with Destination() as web:
        hook(daemon, "web", web.url)
        await daemon.start()
        assert (await relay(daemon, "pause", "web"))[0] == 0
        for number in range(30):
            await daemon.post(numbered(number))
        (daemon.conf / "20-web.toml").unlink()
        kept = "kept until 7d 0h old (journal.retention), as long as there is room, in case it is added back"
        removed = f"connector web: removed; 30 pending events {kept}"
        assert (await relay(daemon, "reload"))[1] == f"{removed}\n"
        (reloaded,) = await daemon.until(lambda: daemon.logged("configuration reloaded"), bool)
        assert reloaded["changes"] == [removed]
        code, screen, _ = await relay(daemon, "status")
        line = "web: not configured any more; 30 pending events kept for journal.retention in case it is added back"
        assert (code, f"\n{line} (relay forget web lets go of it)\n" in screen) == (0, True)
        await daemon.post(numbered(30))

        (daemon.conf / "20-web.toml").write_text(f'[connector.web]\ntype="http"\nurl="{web.url}"\nenabled=false\n')
        assert (await relay(daemon, "reload"))[0] == 0
        off = "web: switched off (enabled = false); 30 pending events and 1 newer event kept for journal.retention"
        assert off in (await relay(daemon, "status"))[1]
        hook(daemon, "web", web.url)
        assert (await relay(daemon, "reload"))[1] == "connector web: added; goes on where it was, 31 events pending\n"
        code, _, error = await relay(daemon, "forget", "web", "--yes")
        assert (code, "the connector web is still configured: remove its table first" in error) == (1, True)
        assert (await relay(daemon, "resume", "web"))[0] == 0
        await web.received(31)
        await daemon.settled("web", 31)
        assert (await relay(daemon, "pause", "web"))[0] == 0
        await daemon.post(numbered(31, 32))
        (daemon.conf / "20-web.toml").write_text(f'[connector.web]\ntype="http"\nurl="{web.url}"\nenabled=false\n')
        assert "connector web: switched off; 2 pending events kept" in (await relay(daemon, "reload"))[1]

        assert (await relay(daemon, "forget", "web"))[0] == 1, "nobody has confirmed it"
        await daemon.post(numbered(33))
        lost = "web is forgotten, with 1 newer, 2 pending and 0 parked events of web\n"
        assert (await relay(daemon, "forget", "web", "--yes"))[:2] == (0, lost)
        (told,) = await daemon.until(lambda: daemon.logged("connector is forgotten"), bool)
        assert (told["connector"], told["expired"], told["parked"]) == ("web", 2, 0)
        assert "web" not in (await relay(daemon, "status"))[1]
        code, books, _ = await relay(daemon, "audit", "--conf", str(daemon.conf))
        assert (code, "web" in books) == (0, False)

        hook(daemon, "web", web.url)
        assert (await relay(daemon, "reload"))[1] == "connector web: added\n"
        await daemon.post(numbered(34))
        await web.received(32)
        await daemon.until(lambda: "web" in daemon.ledger(), bool)
        await daemon.settled("web", 1)
        assert numbers_at(web)[-1] == 34, "it begins anew, and is not paused"
        assert await daemon.stop() == 0


async def test_a_connector_is_forgotten_while_no_relay_runs(daemon: Daemon) -> None:
    daemon.configure("10-source", SOURCE)
    async with Destination() as web:
        web.behaviour = 400
        hook(daemon, "web", web.url)
        await daemon.start()
        await daemon.post(numbered(1, 2))
        await daemon.until(daemon.parked, lambda parked: len(parked) == 2)
        await daemon.settled("web", 2)
        assert await daemon.stop() == 0
    where = ["--conf", str(daemon.conf)]
    assert (await relay(daemon, "forget", "web", "--yes", *where))[0] == 1, "it is configured"
    (daemon.conf / "20-web.toml").unlink()
    closed = daemon.state / "closed"
    closed.mkdir()
    for name in ("web", "other"):
        (closed / name).write_text("{}")
    code, out, _ = await relay(daemon, "forget", "web", "--yes", *where)
    assert (code, out) == (0, "web is forgotten, with 0 pending and 2 parked events of web\n")
    assert (daemon.parked(), daemon.ledger()) == ([], {})
    assert [file.name for file in closed.iterdir()] == ["other"], "what a file connector remembers of its files"
    assert (await relay(daemon, "forget", "web", "--yes", *where))[0] == 1, "nothing is left of it"


async def test_every_refused_reload_is_logged_with_its_mistakes(daemon: Daemon) -> None:
    daemon.configure("10-source", SOURCE)
    await daemon.start()
    for number, wrong in enumerate(("first", "second", "first")):
        daemon.configure("20-bad", f'[connector.bad]\ntype = "{wrong}"')
        daemon.signal(signal.SIGHUP)
        refused = await daemon.until(
            lambda: daemon.logged("configuration not reloaded, the old one goes on"),
            lambda found, number=number: len(found) > number,
        )
        assert f'there is no connector type "{wrong}"' in refused[-1]["mistakes"][0]
        assert "always" not in refused[-1]
    assert await daemon.stop() == 0


async def test_a_reload_names_plugins_that_came_after_the_start(daemon: Daemon) -> None:
    daemon.configure("10-source", SOURCE)
    await daemon.start()
    (daemon.plugins / "chat.py").write_text(CHAT)
    daemon.configure("20-chat", '[connector.chat]\ntype = "chat"')
    code, _, error = await relay(daemon, "reload")
    new = f"plugin chat ({daemon.plugins / 'chat.py'}) came after the start, and takes a restart"
    assert (code, "there is no connector type" in error, error.count(new)) == (78, True, 1)
    assert await daemon.stop() == 0


async def test_what_waits_for_a_restart_is_told_as_long_as_it_waits(daemon: Daemon) -> None:
    (daemon.plugins / "chat.py").write_text(CHAT)
    daemon.configure("10-source", SOURCE)
    daemon.configure("20-chat", '[connector.chat]\ntype = "chat"')
    await daemon.start()
    assert (await relay(daemon, "reload"))[1] == "nothing has changed\n"
    before = (daemon.conf / "00-ingest.toml").read_text()

    daemon.configure("00-ingest", '[ingest]\nlisten = "127.0.0.1:1"')
    for _ in range(2):
        assert (await relay(daemon, "reload"))[1] == "ingest.listen: takes a restart\n"
        assert "a restart is needed for: ingest.listen" in (await relay(daemon, "status"))[1]
    daemon.configure("00-ingest", before)
    assert (await relay(daemon, "reload"))[1] == "ingest.listen: needs no restart any more\n"
    assert "a restart" not in (await relay(daemon, "status"))[1]
    assert (await relay(daemon, "reload"))[1] == "nothing has changed\n"

    (daemon.plugins / "chat.py").write_text(CHAT + "\n")
    stale = f"the new code of plugin chat ({daemon.plugins / 'chat.py'})"
    for _ in range(2):
        assert (await relay(daemon, "reload"))[1] == f"{stale}: takes a restart\n"
    assert f"a restart is needed for: {stale}" in (await relay(daemon, "status"))[1]
    daemon.configure("20-chat", '[connector.chat]\ntype = "chat"\nroom = "a"')
    refused = f"20-chat.toml:3: connector.chat.room: unknown key; {stale} takes a restart"
    assert refused in (await relay(daemon, "reload"))[2]
    daemon.configure("20-chat", '[connector.chat]\ntype = "chat"')
    (daemon.plugins / "chat.py").write_text("import nothing_here")
    fault = "ModuleNotFoundError: No module named 'nothing_here'"
    broken = f"{stale}, with which relay would not start ({fault}): takes a restart\n"
    assert (await relay(daemon, "reload"))[1] == broken
    (daemon.plugins / "chat.py").unlink()
    assert (await relay(daemon, "reload"))[1] == broken.replace(fault, "its file is gone")
    (daemon.plugins / "chat.py").write_text(CHAT)
    assert (await relay(daemon, "reload"))[1] == "nothing has changed\n"
    assert await daemon.stop() == 0


@pytest.mark.promise(7)
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
async def test_a_reload_that_one_worker_cannot_make_ends_nothing_in_any(daemon: Daemon, workers: int) -> None:
    """The last worker alone fails, after the connector is made. Looked at: what is removed, added and changed beside
    it; other ways of failing have their tests in test_starting and test_plugin_contract."""
    (daemon.plugins / "moody.py").write_text(MOODY % (workers - 1))
    daemon.configure("05-runtime", f"[runtime]\nworkers = {workers}")
    daemon.configure("10-source", SOURCE)
    daemon.configure("20-moody", '[connector.moody]\ntype = "moody"')
    async with Watched() as kept:
        hook(daemon, "kept", kept.url)
        hook(daemon, "leaves", kept.url + "?leaves")
        await daemon.start()
        daemon.configure("20-moody", '[connector.moody]\ntype = "moody"\nmood = "bad"')
        (daemon.conf / "20-leaves.toml").unlink()
        hook(daemon, "kept", kept.url + "?changed")
        hook(daemon, "added", kept.url + "?added")
        code, _, error = await relay(daemon, "reload")
        assert (code, "20-moody.toml:1: connector.moody: cannot be made: RuntimeError: moody" in error) == (78, True)
        lanes = orjson.loads((await relay(daemon, "status", "--json"))[1])["lanes"]
        assert sorted(lane["connector"] for lane in lanes) == ["kept", "leaves", "moody"]
        for number in range(10):
            assert (await daemon.post(numbered(number)))[0] == 202
        await kept.received(20)
        assert {request.target for request in kept.requests} == {"/", "/?leaves"}
        daemon.configure("20-moody", '[connector.moody]\ntype = "moody"')
        assert (await relay(daemon, "reload"))[0] == 0
        assert await daemon.stop() == 0


@pytest.mark.long
async def test_workers_say_once_what_waits_for_a_restart(daemon: Daemon) -> None:
    (daemon.plugins / "chat.py").write_text(CHAT)
    daemon.configure("05-runtime", "[runtime]\nworkers = 2")
    daemon.configure("10-source", SOURCE)
    daemon.configure("20-chat", '[connector.chat]\ntype = "chat"')
    await daemon.start()
    (daemon.plugins / "chat.py").write_text(CHAT + "\n")
    daemon.configure("05-runtime", "[runtime]\nworkers = 3\n[metrics]\nlisten = '127.0.0.1:9464'")
    waiting = ["runtime.workers", "metrics.listen", f"the new code of plugin chat ({daemon.plugins / 'chat.py'})"]
    for _ in range(2):
        code, out, _error = await relay(daemon, "reload")
        assert (code, sorted(out.splitlines())) == (0, sorted(f"{name}: takes a restart" for name in waiting))
        code, out, _error = await relay(daemon, "status")
        (line,) = [line for line in out.splitlines() if line.startswith("a restart")]
        assert all(line.count(name) == 1 for name in waiting)
    assert await daemon.stop() == 0


@pytest.mark.slow
@pytest.mark.long
async def test_very_many_reloads_under_load_refuse_nobody_and_lose_nothing(daemon: Daemon) -> None:
    async with Watched() as kept, Destination() as moody:
        daemon.configure("10-source", SOURCE + 'dedupe = "1h"')
        hook(daemon, "kept", kept.url)
        await daemon.start()
        sent, over = 0, False

        async def load() -> None:
            nonlocal sent
            async with aiohttp.ClientSession() as session:
                while not over:
                    async with session.post(f"{daemon.url}/currents", data=numbered(sent)) as answer:
                        assert answer.status == 202, await answer.text()
                    sent += 1

        async with asyncio.TaskGroup() as group, aiohttp.ClientSession(connector=_socket(daemon)) as admin:
            group.create_task(load(), name="load")
            for number in range(200 if LONG else 24):
                mood = number % 4
                hook(daemon, "moody", moody.url, f"timeout = '{5 + number}s'\nfrom = 'oldest'")
                daemon.configure("10-source", SOURCE + f'dedupe = "{1 + number % 3}h"')
                if mood == 2:
                    (daemon.conf / "20-moody.toml").unlink()
                elif mood == 3:
                    daemon.configure("20-moody", "[connector.moody]\ntype = 'htpp'")
                async with admin.post("http://relay/reload") as answer:
                    assert (await answer.json())["ok"] is (mood != 3)
            hook(daemon, "moody", moody.url)
            async with admin.post("http://relay/reload") as answer:
                assert (await answer.json())["ok"]
            over = True
        await daemon.settled("kept", sent)
        await daemon.settled("moody", sent)
        assert sorted(numbers_at(kept)) == [*range(sent)]
        assert set(numbers_at(moody)) == {*range(sent)}
        assert len(kept.connections) <= 4, "no more than its concurrency: it was never made anew"
        assert await daemon.stop() == 0


def _socket(daemon: Daemon) -> aiohttp.UnixConnector:
    return aiohttp.UnixConnector(str(daemon.state / "admin.sock"))
