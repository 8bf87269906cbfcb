"""The demonstration against the real relay, and against small impostors that it must find out."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from click.testing import CliRunner

from relay.cli.main import relay as cli
from relay.sandbox.daemon import SandboxError, prepare
from relay.sandbox.demo import Demo
from relay.state.database import StateDatabase
from relay.store import Counts, Cursor, Parked

EVENTS = 300


def demo(folder: Path, *command: str, shown: list[str] | None = None) -> Demo:
    show = (lambda line: None) if shown is None else shown.append
    return Demo(folder=folder, events=EVENTS, show=show, interval=0.05, command=(sys.executable, *command))


async def test_a_relay_that_loses_an_event_does_not_balance(tmp_path):
    shown: list[str] = []
    result = await demo(tmp_path, __file__, "loses one on the way to heap", shown=shown).run()
    assert not result.all_balance
    assert [result.balances(lane) for lane in result.lanes] == [True, False]
    assert result.lanes[0].arrived == EVENTS > result.lanes[1].arrived
    assert (result.sent, result.accepted, result.parked_at_source) == (EVENTS + 1, EVENTS + 1, 1)
    assert shown


@pytest.mark.long  # quicker: a relay that loses an event is noticed
async def test_a_relay_that_dies_is_noticed(tmp_path):
    with pytest.raises(SandboxError, match=r"(?s)went away with exit code 70.*\n  good bye"):
        await demo(tmp_path, __file__, "dies").run()


async def test_a_relay_that_does_not_start_is_noticed(tmp_path):
    with pytest.raises(SandboxError, match=r"(?s)did not start: exit code 78.*\n  all wrong"):
        await demo(tmp_path, "-c", "print('all wrong'); raise SystemExit(78)").run()


def test_the_shipped_configuration_is_kept_and_only_addresses_are_added(tmp_path):
    place = prepare(tmp_path, "s3cret", "http://127.0.0.1:1/webhook")
    shipped = Path(__file__).parents[3] / "conf.d"
    for path in shipped.glob("*"):
        assert (place.conf / path.name).read_bytes() == path.read_bytes()
    added = {path.parent.name: tomllib.loads(path.read_text()) for path in place.conf.glob("*.d/*.toml")}
    token = {"file": str(tmp_path / "token")}
    assert added == {
        "00-relay.toml.d": {"ingest": {"listen": f"127.0.0.1:{place.port}"}},
        "20-braze.toml.d": {"source": {"braze": {"tokens": [token]}}},
        "60-heap.toml.d": {
            "connector": {"heap": {"enabled": True, "endpoint": "http://127.0.0.1:1/webhook", "token": token}}
        },
    }
    assert (tmp_path / "token").stat().st_mode & 0o77 == 0
    assert (tmp_path / "token").read_text() == "s3cret"


@pytest.mark.long
def test_the_command_shows_that_everything_balances(tmp_path, relay_forks):
    kept = tmp_path / "kept"
    command = [*relay_forks.command, "sandbox", "--events", str(EVENTS), "--keep", str(kept), "--json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["balances"]
    assert result["sent"] == result["accepted"] == EVENTS + 1
    archive, heap = result["connectors"]
    assert archive["arrived"] == EVENTS
    assert 0 < heap["arrived"] < EVENTS
    assert list((kept / "state" / "archive").glob("*.ndjson"))


@pytest.mark.long
async def test_a_console_shows_the_demo_until_ctrl_c(relay_forks):
    pytest.importorskip("jinja2", reason="the console takes the package currents-relay[console]")
    from tests.console import Browser
    from tests.process.console_place import EDIT, find_seen

    file = {"name": "70-copy.toml", "text": '[connector.copy]\ntype = "file"\npath = "copy/{date}.ndjson"\n'}
    command = [*relay_forks.command, "sandbox", "--events", str(EVENTS), "--console"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, process_group=0)
    try:
        async with asyncio.timeout(60):
            said = (await process.stdout.readuntil(b"Ctrl-C")).decode()
            assert "Everything balances." in said
            url, user, secret = re.search(r"Open (\S+) and sign in as (\S+) with the secret (\S+)\n", said).groups()
            async with Browser(url) as browser:
                assert (await browser.sign_in(user, secret)).status == 303
                page = await browser.get("/")
                assert '<a href="/connectors/heap">' in page.text
                checked = await browser.post(EDIT, token=page.token, act="check", **file)
                launched = await browser.post(EDIT, token=page.token, act="launch", seen=find_seen(checked), **file)
                assert "connector copy: added" in (await browser.get(launched.location)).text
                books = re.search(r"curl (\S+/_sandbox/books)\n", said).group(1)
                async with aiohttp.ClientSession() as http, http.get(books) as answer:
                    assert (await answer.json())["events"] > 0
            os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.long
async def test_a_demo_that_is_ended_takes_its_relay_along(tmp_path, relay_forks):
    kept = tmp_path / "demo"
    command = [*relay_forks.command, "sandbox", "--events", "1000000", "--keep", str(kept)]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    async with asyncio.timeout(60):
        while b" accepted" not in await process.stderr.readline():
            pass
        relay = int((kept / "state" / "lock").read_text())
        process.send_signal(signal.SIGTERM)
        await process.stderr.read()
        assert await process.wait() == 1
        while Path(f"/proc/{relay}").exists():
            await asyncio.sleep(0.05)


def test_a_console_that_cannot_start_is_told_before_the_demo(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    answer = CliRunner().invoke(cli, ["sandbox", "--console"])
    assert answer.exit_code == 1
    assert "the console needs jinja2, which is not installed: " in answer.stderr
    assert "-m pip install 'currents-relay[console]'" in answer.stderr


# What follows is the impostor, run as `python test_sandbox_demo.py FAULT run --conf DIR --state DIR`.


class Impostor:
    """The least that looks like relay from outside: takes events, archives and forwards them, keeps ledgers."""

    def __init__(self, fault: str, conf: Path, state: Path) -> None:
        self.fault = fault
        self.settings = {path.parent.name: tomllib.loads(path.read_text()) for path in conf.glob("*.d/*.toml")}
        self.token = f"Bearer {(conf.parent / 'token').read_text()}"
        self.archive = state / "archive" / "today.ndjson"
        self.archive.parent.mkdir()
        self.state = StateDatabase(state)
        self.count = 0

    async def run(self) -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        application = web.Application()
        application.router.add_get("/readyz", self.ready)
        application.router.add_post("/currents", self.take)
        runner = web.AppRunner(application)
        await runner.setup()
        self.http = aiohttp.ClientSession(headers={"Authorization": self.token})
        host, port = self.settings["00-relay.toml.d"]["ingest"]["listen"].split(":")
        await web.TCPSite(runner, host, int(port)).start()
        await stop.wait()
        await runner.cleanup()
        await self.http.close()
        self.state.close()

    async def ready(self, request: web.Request) -> web.Response:
        return web.Response()

    async def take(self, request: web.Request) -> web.Response:
        if request.headers["Authorization"] != self.token:
            return web.Response(status=401)
        body = await request.read()
        entries = json.loads(body)["events"] if body else []
        if entries and self.fault == "dies":
            print("good bye", flush=True)
            os._exit(70)
        events = [entry for entry in entries if isinstance(entry, dict)]
        if len(events) < len(entries):
            await self.state.park([Parked("braze", None, None, None, "unreadable", "no event", 0, b"")])
        await self.deliver(events)
        return web.Response(status=202)

    async def deliver(self, events: list[dict]) -> None:
        with self.archive.open("a") as lines:
            lines.writelines(json.dumps(event) + "\n" for event in events)
        lost = int(self.fault == "loses one on the way to heap" and self.count == 0)
        endpoint = self.settings["60-heap.toml.d"]["connector"]["heap"]["endpoint"]
        async with self.http.post(endpoint, json={"events": events[lost:]}) as answer:
            assert answer.status == 200
        self.count += len(events)
        cursor = Cursor(0, self.count, counts=Counts(delivered=self.count))
        await self.state.save({"archive": cursor, "heap": cursor}, self.count)


if __name__ == "__main__":
    fault, _, _, conf, _, state = sys.argv[1:]
    asyncio.run(Impostor(fault, Path(conf), Path(state)).run())
