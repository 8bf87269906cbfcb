"""What goes wrong while relay starts: it is told in a line, and holds up nothing that is not concerned."""

import asyncio
import json
import signal
import sys

import aiohttp
import orjson
import pytest
from click.testing import CliRunner

from relay.cli.main import relay
from relay.testing import Destination, make_event
from tests.daemon import Daemon

SOURCE = '[source.braze]\ntype = "currents"\npath = "/currents"\n'
SLOW = """
import asyncio
from relay.api import Connector, ConnectorSettings

class Slow(Connector, type="slow"):
    Settings = ConnectorSettings

    async def open(self):
        self.log.info("gets ready")
        await asyncio.sleep(3600)

    async def deliver(self, batch):
        pass
"""
SIGNALLED = """
import os
from pydantic import field_validator
from relay.api import Connector, ConnectorSettings

class Signalled(Connector, type="signalled"):
    class Settings(ConnectorSettings):
        signal: int

        @field_validator("signal")
        def send(cls, value):
            os.kill(os.getpid(), value)
            return value

    async def deliver(self, batch):
        pass
"""
LISTED = """
from relay.api import Filter, FilterSettings

class Listed(Filter, type="listed"):
    class Settings(FilterSettings):
        file: str

    def __init__(self, name, settings):
        super().__init__(name, settings)
        self.names = open(settings.file).read()

    def apply(self, event):
        return event
"""
SOURCES = """
from relay.api import Source

class Torn(Source, type="torn"):
    def __init__(self, name, settings):
        raise RuntimeError("torn")

    def decode(self, request):
        raise NotImplementedError

class Gone(Torn, type="gone"):
    def __init__(self, name, settings):
        raise SystemExit(3)
"""
COHORTS = """
[connector.cohorts]
type = "braze_cohorts"
endpoint = "http://127.0.0.1:9"
partner = "heap"
partner_key = { env = "PARTNER_KEY" }
data_import_key = { env = "PARTNER_KEY" }
"""


def prepare(daemon: Daemon, workers: int, url: str = "") -> None:
    daemon.configure("05-runtime", f"[runtime]\nworkers = {workers}\ndrain = '3s'")
    daemon.configure("10-source", SOURCE)
    if url:
        daemon.configure("20-hook", f'[connector.hook]\ntype = "http"\nurl = "{url}"')


def batch(*numbers: int) -> bytes:
    events = [orjson.loads(make_event()) | {"id": f"id-{number}"} for number in numbers]
    return orjson.dumps({"events": events})


async def command(*arguments: str) -> tuple[int, str]:
    """What a relay command exits with, and what it writes."""
    result = await asyncio.to_thread(CliRunner().invoke, relay, arguments)
    return result.exit_code, result.output


def told(daemon: Daemon) -> str:
    assert not any("Traceback" in line for line in daemon.stderr), "\n".join(daemon.stderr)
    return "\n".join(daemon.stderr)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
async def test_a_connector_that_never_opens_blocks_neither_senders_nor_a_stop(daemon: Daemon, workers: int) -> None:
    """Looked at: the others deliver, a reload says so, SIGTERM ends it, with one process and with several."""
    (daemon.plugins / "slow.py").write_text(SLOW)
    async with Destination() as destination:
        prepare(daemon, workers, destination.url)
        daemon.configure("30-slow", '[connector.slow]\ntype = "slow"')
        await daemon.start()
        await daemon.until(lambda: daemon.logged("gets ready"), lambda lines: len(lines) == workers)
        assert (await daemon.post(batch(1, 2)))[0] == 202
        await daemon.settled("hook", 2)
        assert daemon.ledger()["slow"].pending == 2 or workers == 2
        daemon.configure("30-slow", '[connector.slow]\ntype = "slow"\nopen_timeout = "50ms"')
        _, out = await command("reload", "--state", str(daemon.state))
        assert "connector slow: changed" in out
        why = "connector slow: cannot be opened: it was not ready within 0.05s (open_timeout); tried again by itself"
        assert f"warning: {why}" in out
        _, out = await command("status", "--state", str(daemon.state))
        assert "slow: cannot be opened: it was not ready within 0.05s (open_timeout)" in out
        daemon.configure("30-slow", '[connector.slow]\ntype = "slow"')
        await command("reload", "--state", str(daemon.state))
        assert await daemon.stop() == 0
        assert not daemon.logged("deliveries under way are cut short and made again after the next start")
    told(daemon)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
async def test_a_stop_in_the_middle_of_the_start_is_a_stop(daemon: Daemon, workers: int) -> None:
    (daemon.plugins / "slow.py").write_text(SLOW)
    prepare(daemon, workers)
    daemon.configure("30-slow", '[connector.slow]\ntype = "slow"')
    await daemon.launch()
    await daemon.until(lambda: daemon.logged("gets ready"), bool)
    daemon.signal(signal.SIGTERM)
    assert await daemon.ended() == 0
    told(daemon)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_while_plugins_check_settings_is_a_stop(daemon: Daemon, number: signal.Signals) -> None:
    (daemon.plugins / "signalled.py").write_text(SIGNALLED)
    daemon.configure("30-signalled", f'[connector.one]\ntype = "signalled"\nsignal = {number:d}')
    await daemon.launch()
    assert await daemon.ended() == 0
    assert ([line["message"] for line in daemon.logs], len(daemon.stderr)) == (["relay stopped during its start"], 1)


async def test_damaged_memberships_of_cohorts_fail_that_connector_alone(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at as well: an `open()` that hangs (above) or raises anything (test_unruly_plugins.py), a damaged relay.db
    (test_lost_state.py)."""
    monkeypatch.setenv("PARTNER_KEY", "not-a-secret")
    (daemon.state / "cohorts").mkdir(parents=True)
    (damaged := daemon.state / "cohorts" / "cohorts.db").write_bytes(b"no database" * 1000)
    async with Destination() as destination:
        prepare(daemon, 1, destination.url)
        daemon.configure("30-cohorts", COHORTS)
        await daemon.start()
        assert (await daemon.post(batch(1)))[0] == 202
        await daemon.settled("hook", 1)
        (failed,) = await daemon.until(lambda: daemon.logged("connector cannot be opened, tried again"), bool)
        assert failed["connector"] == "cohorts"
        assert failed["reason"].startswith(f"{damaged}: file is not a database; if it is damaged, restore it, or")
        assert "exception" not in failed
        _, out = await command("status", "--json", "--state", str(daemon.state))
        states = {lane["connector"]: lane["state"] for lane in json.loads(out)["lanes"]}
        assert states == {"cohorts": "broken", "hook": "working"}
        assert await daemon.stop() == 0
    told(daemon)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
async def test_what_cannot_be_made_is_a_mistake_for_check_start_and_reload(daemon: Daemon, workers: int) -> None:
    """Looked at: filters and sources; connectors are tried in the same way."""
    (daemon.plugins / "listed.py").write_text(LISTED)
    (daemon.plugins / "torn.py").write_text(SOURCES)
    async with Destination() as destination:
        prepare(daemon, workers, destination.url)
        await daemon.start()
        before = daemon.conf / "20-hook.toml"
        good = before.read_text()
        why = "FileNotFoundError: [Errno 2] No such file or directory: '/nope'"
        for name, bad, mistake in (
            (
                "20-hook",
                f"{good}\nfilters = ['l']\n[filter.l]\ntype = 'listed'\nfile = '/nope'",
                f"20-hook.toml:5: filter.l: cannot be made: {why}",
            ),
            (
                "30-torn",
                "[source.torn]\ntype = 'torn'\npath = '/torn'",
                "30-torn.toml:1: source.torn: cannot be made: RuntimeError: torn",
            ),
            (
                "40-gone",
                "[source.gone]\ntype = 'gone'\npath = '/gone'",
                "40-gone.toml:1: source.gone: cannot be made: SystemExit: 3 (a plugin must not raise that)",
            ),
        ):
            daemon.configure(name, bad)
            where = ["--conf", str(daemon.conf), "--plugins", str(daemon.plugins)]
            for arguments in (["check", *where], ["reload", "--state", str(daemon.state)]):
                code, out = await command(*arguments)
                assert (code, mistake in out, "Traceback" in out) == (78, True, False), out
        assert (await daemon.post(batch(*range(20))))[0] == 202
        await destination.received(20)
        assert await daemon.stop() == 0
        await daemon.launch()
        assert await daemon.ended() == 78
        assert mistake in told(daemon)


@pytest.mark.long
async def test_closed_standard_streams_cost_nothing_and_take_nothing(daemon: Daemon) -> None:
    """Of workers; a single process is in test_streams, and commands have their own tests. Looked at: what connector
    `stdout` writes does not count, no file gets a line of the log."""
    async with Destination() as destination:
        prepare(daemon, 2, destination.url)
        daemon.configure("30-out", '[connector.out]\ntype = "stdout"\nretry = { first = "10ms", max = "20ms" }')
        run = [sys.executable, "-m", "relay", "run", "--conf", str(daemon.conf), "--state", str(daemon.state)]
        daemon.configure("00-ingest", f'[ingest]\nlisten = "unix:{daemon.state.parent}/in.sock"')
        process = await asyncio.create_subprocess_exec("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *run)
        for socket in (daemon.state / "admin.sock", daemon.state.parent / "in.sock"):
            await daemon.until(socket.exists, bool)
        connector = aiohttp.UnixConnector(f"{daemon.state.parent}/in.sock")
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.post("http://relay/currents", data=batch(2)) as answer,
        ):
            assert answer.status == 202
        await destination.received(1)
        await daemon.until(lambda: daemon.ledger()["hook"].counts.delivered, lambda number: number > 0)
        assert daemon.ledger()["out"].counts.delivered == 0
        process.terminate()
        async with asyncio.timeout(30):
            assert await process.wait() == 0
    for path in daemon.state.rglob("*"):
        assert path.is_dir() or path.is_socket() or b'"level"' not in path.read_bytes(), path


async def test_a_relay_that_is_stopped_is_told_by_who_asks_it(daemon: Daemon) -> None:
    prepare(daemon, 1)
    await daemon.start()
    state = ("--state", str(daemon.state))
    daemon.signal(signal.SIGSTOP)
    try:
        said = [await command("status", *state), await command("reload", *state)]
    finally:
        daemon.signal(signal.SIGCONT)
    pid = daemon.pid
    expected = (
        f"Error: relay does not answer within 3 s: process {pid}: it is stopped (kill -CONT {pid} lets it go on)\n"
    )
    assert said == [(1, expected)] * 2
    assert (await command("status", *state))[1].startswith("relay ")


async def test_doctor_judges_the_configuration_of_the_relay_that_runs(daemon: Daemon) -> None:
    prepare(daemon, 1)
    await daemon.start()
    lines = (await daemon.run("doctor")).stdout.decode().splitlines()
    assert lines[:2] == [f"state folder {daemon.state}: a relay runs with it", f"configuration {daemon.conf}"]
    assert await daemon.stop() == 0


@pytest.mark.parametrize(("what", "workers"), [("file", 1), ("loop", 1), ("file", 2)])
async def test_a_state_folder_that_cannot_be_used_is_told_in_a_line(daemon: Daemon, what: str, workers: int) -> None:
    prepare(daemon, workers)
    if what == "file":
        daemon.state.write_text("in the way")
        daemon.state /= "below"
    else:
        daemon.state.symlink_to(daemon.state)
    await daemon.launch()
    assert await daemon.ended() == 1
    assert f"relay cannot start: the state folder {daemon.state} cannot be used: " in told(daemon)
