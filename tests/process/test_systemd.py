"""relay under a service manager: what it is told and when, and sockets that outlive a restart."""

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest
from click.testing import CliRunner

from relay.cli.main import relay as cli
from relay.sandbox.daemon import find_free_port
from relay.testing import Answer, Destination, make_event
from tests.console import RunningConsole
from tests.daemon import Daemon
from tests.forks import Forks
from tests.postgres import Server, run_server
from tests.process.fleet import make_cluster, use_database
from tests.process.test_workers import children

TABLES = """
[source.braze]
type = "currents"
path = "/currents"

[connector.hook]
type = "http"
url = "%s"
"""
WATCHDOG_S = 2.0
PASSED = 'os.dup2(%d, 3); os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")'
"""What systemd does to pass a socket."""
HANGS = """
import os, time
from pathlib import Path
from importlib import import_module

def hang_in(module, path, flag):
    *owners, name = path.split(".")
    owner = import_module(module)
    for each in owners:
        owner = getattr(owner, each)
    real = getattr(owner, name)

    def hanging(*arguments):
        while flag.exists():
            time.sleep(0.01)
        return real(*arguments)

    setattr(owner, name, hanging)

hang_in(%r, %r, Path(%r))
"""
BLOCKS = """
import time
from relay.api import Connector, ConnectorSettings

class Blocking(Connector, type="blocking"):
    class Settings(ConnectorSettings):
        pass

    async def deliver(self, batch):
        while True:
            time.sleep(1)
"""
MADE_SLOWLY = """
import time
from relay.api import Connector, ConnectorSettings

class Slow(Connector, type="slow"):
    class Settings(ConnectorSettings):
        pass

    def __init__(self, name, settings, *, folder):
        super().__init__(name, settings, folder=folder)
        if folder.is_absolute():  # no mere look at its settings
            (folder / "made").touch()
        while folder.is_absolute() and not (folder / "go").exists():
            time.sleep(0.01)

    async def deliver(self, batch):
        pass
"""


class Systemd:
    """The other end of $NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.told: list[dict[str, str]] = []
        self._news = asyncio.Event()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def _read(self) -> None:
        lines = self._socket.recv(65536).decode().split("\n")
        self.told.append(dict(line.split("=", 1) for line in lines))
        self._news.set()

    async def hears(self, key: str, value: str = "", *, after: int = 0, within: float = 20) -> int:
        """Wait for a message with this key whose value begins so; return how many messages there were with it."""
        async with asyncio.timeout(within):
            while True:
                for number, message in enumerate(self.told[after:], after + 1):
                    if message.get(key, "?").startswith(value) and key in message:
                        return number
                self._news.clear()
                await self._news.wait()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()


@pytest.fixture
async def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Systemd]:
    it = Systemd(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(it.path))
    monkeypatch.setenv("WATCHDOG_USEC", f"{WATCHDOG_S * 1e6:.0f}")
    monkeypatch.setenv("PYTHONFAULTHANDLER", "1")
    yield it
    it.close()


async def test_systemd_is_told_how_relay_starts_works_and_stops(daemon: Daemon, systemd: Systemd) -> None:
    (daemon.plugins / "slow.py").write_text(MADE_SLOWLY)
    async with Destination() as hook:
        daemon.configure("10-all", TABLES % hook.url + '[connector.slow]\ntype="slow"')
        await daemon.launch()
        await daemon.until((daemon.state / "made").exists, bool)
        assert systemd.told == []
        (daemon.state / "go").touch()
        await systemd.hears("READY", "1")
        (runs,) = await daemon.until(lambda: daemon.logged("relay runs"), bool)
        daemon.url = runs["listen"][0]
        status = "0 events accepted, 2 connectors, nothing pending"
        assert systemd.told[0] == {"READY": "1", "STATUS": status}
        await systemd.hears("WATCHDOG", "1")

        hook.behaviour = Answer(hang=True)
        assert (await daemon.post(b'{"events":[%s]}' % make_event()))[0] == 202
        await hook.requested(1)
        await systemd.hears("STATUS", "1 event accepted, 2 connectors, slowest hook: 1 pending")
        daemon.signal(signal.SIGTERM)
        stop = await systemd.hears("STOPPING", "1")
        draining = await systemd.hears("WATCHDOG", "1", after=stop)
        hook.release()
        assert await daemon.ended() == 0
        assert all(message.keys() >= {"WATCHDOG", "STATUS"} for message in systemd.told[1 : stop - 1])
        assert not any("EXTEND_TIMEOUT_USEC" in message for message in systemd.told[: stop - 1])
        assert all(int(message["EXTEND_TIMEOUT_USEC"]) >= 5e6 for message in systemd.told[stop - 1 :])
        assert draining > stop


async def send(session: aiohttp.ClientSession, url: str, acknowledged: list[bytes]) -> None:
    event = make_event()
    async with session.post(url + "/currents", data=b'{"events":[%s]}' % event) as answer:
        assert answer.status in (202, 503)
        if answer.status == 202:
            acknowledged.append(event)


@pytest.mark.parametrize(
    ("where", "what"),
    [
        (("os", "fdatasync"), "the journal's writer"),
        (("relay.journal.segment", "SegmentReader.read"), "what deliveries wait for"),
        (("relay.state.database", "StateDatabase._run_transaction"), "what deliveries wait for"),
    ],
    ids=["sync", "read", "database"],
)
async def test_a_disk_that_hangs_stops_the_signs_of_life(
    daemon: Daemon, systemd: Systemd, tmp_path: Path, where: tuple[str, str], what: str
) -> None:
    flag = tmp_path / "hang"
    (daemon.plugins / "hangs.py").write_text(HANGS % (*where, str(flag)))
    async with Destination() as hook:
        daemon.configure("10-all", TABLES % hook.url + "[journal]\nmemory = 0")
        await daemon.start()
        await systemd.hears("WATCHDOG", "1")
        flag.touch()
        async with asyncio.TaskGroup() as group:
            posting = group.create_task(daemon.post(b'{"events":[%s]}' % make_event()), name="sender")
            first = await systemd.hears("STATUS", f"stuck: {what} has not answered")
            second = await systemd.hears("STATUS", "stuck", after=first)
            assert not any("WATCHDOG" in message for message in systemd.told[first - 1 : second])
            flag.unlink()
            await systemd.hears("WATCHDOG", "1", after=second)
        assert posting.result()[0] == 202
        await daemon.settled("hook", 1)
        assert {line["level"] for line in daemon.logged("relay is stuck")} == {"error"}


@pytest.fixture
def database() -> Iterator[Server]:
    with run_server() as server:
        make_cluster(server.dsn)
        yield server


@pytest.mark.parametrize("backend", ["embedded", pytest.param("postgres", marks=pytest.mark.long)])
async def test_a_plugin_that_blocks_the_loop_is_ended_by_the_watchdog_and_named(
    daemon: Daemon, systemd: Systemd, backend: str, request: pytest.FixtureRequest
) -> None:
    if backend == "postgres":
        use_database(daemon, request.getfixturevalue("database").dsn)
    (daemon.plugins / "blocking.py").write_text(BLOCKS)
    daemon.wrapper = ["env"]  # an interpreter that begins with $PYTHONFAULTHANDLER
    daemon.configure("10-all", TABLES.split("[connector")[0] + '[connector.it]\ntype = "blocking"')
    await daemon.start()
    with suppress(TimeoutError, aiohttp.ClientError):
        async with asyncio.timeout(WATCHDOG_S / 4):
            await daemon.post(b'{"events":[%s]}' % make_event())
    with suppress(TimeoutError):  # what systemd does
        while True:
            await systemd.hears("WATCHDOG", "1", after=len(systemd.told), within=WATCHDOG_S)
    daemon.signal(signal.SIGABRT)
    assert await daemon.ended() == -signal.SIGABRT
    assert "blocking.py" in "\n".join(daemon.stderr)


async def test_a_database_that_hangs_is_not_a_stuck_loop(daemon: Daemon, systemd: Systemd, database: Server) -> None:
    async with Destination() as hook:
        use_database(daemon, database.dsn)
        daemon.configure("10-all", TABLES % hook.url)
        await daemon.start()
        assert (await daemon.post(b'{"events":[%s]}' % make_event()))[0] == 202
        database.freeze()
        async with asyncio.TaskGroup() as group:
            posting = group.create_task(daemon.post(b'{"events":[%s]}' % make_event()), name="sender")
            heard = len(systemd.told)
            for _ in range(6):  # three times as long as an embedded journal may take
                heard = await systemd.hears("WATCHDOG", "1", after=heard, within=WATCHDOG_S)
            assert not posting.done()
            database.thaw()
        assert posting.result()[0] == 202
        assert not any(message.get("STATUS", "").startswith("stuck") for message in systemd.told)


async def test_a_dead_destination_is_not_a_stuck_loop(daemon: Daemon, systemd: Systemd) -> None:
    async with Destination() as hook:
        hook.behaviour = Answer(hang=True)
        daemon.configure("10-all", TABLES % hook.url + "window = 10\nbatch = { events = 5 }\n[journal]\nmemory = 0")
        await daemon.start()
        events = b",".join(make_event() for _ in range(200))
        assert (await daemon.post(b'{"events":[%s]}' % events))[0] == 202
        await hook.requested(2)
        heard = await systemd.hears("STATUS", "200 events accepted, 1 connector, slowest hook: 200 pending")
        for _ in range(3):
            heard = await systemd.hears("STATUS", after=heard)
        assert all("WATCHDOG" in message for message in systemd.told[1:])


async def test_systemd_is_told_how_the_console_starts_works_and_stops(
    daemon: Daemon, systemd: Systemd, relay_forks: Forks
) -> None:
    pytest.importorskip("jinja2", reason="the console takes the package currents-relay[console]")
    daemon.configure("90-console", '[console]\nlisten = "127.0.0.1:0"\n')
    console = RunningConsole(daemon.conf, daemon.state, relay_forks)
    await console.start()
    heard = await systemd.hears("READY", "1")
    for _ in range(3):  # though no relay runs
        heard = await systemd.hears("WATCHDOG", "1", after=heard, within=WATCHDOG_S)
    assert await console.stop() == 0
    await systemd.hears("STATUS", "stopping: finishing the requests under way")


async def test_a_stuck_worker_is_restarted_and_systemd_hears_of_all_workers(daemon: Daemon, systemd: Systemd) -> None:
    async with Destination() as hook:
        daemon.configure("10-all", TABLES % hook.url + "[runtime]\nworkers = 2\ndrain = '2s'")
        await daemon.start()
        await systemd.hears("READY", "1")
        assert systemd.told[0] == {"READY": "1", "STATUS": "0 events accepted, 1 connector, nothing pending, 2 workers"}
        assert len(daemon.logged("worker runs")) == 2
        for _ in range(10):
            assert (await daemon.post(b'{"events":[%s]}' % make_event()))[0] == 202
        await systemd.hears("STATUS", "10 events accepted, 1 connector, nothing pending, 2 workers")
        stuck = children(daemon)[1]
        os.kill(stuck, signal.SIGSTOP)
        await daemon.until(lambda: daemon.logged("worker gives no sign of life, is killed"), bool)
        await daemon.until(lambda: children(daemon).get(1), lambda pid: pid not in (None, stuck))
        assert sum("READY" in message for message in systemd.told) == 1
        hook.behaviour, requests = Answer(hang=True), len(hook.requests)
        while (await daemon.post(b'{"events":[%s]}' % make_event()))[0] == 503:
            await asyncio.sleep(0.1)  # the one that starts again takes its time on a busy machine
        await hook.requested(requests + 1)
        daemon.signal(signal.SIGTERM)
        stop = await systemd.hears("STOPPING", "1")
        await systemd.hears("WATCHDOG", "1", after=stop)
        hook.release()
        assert await daemon.ended() == 0
        assert all("WATCHDOG" in message for message in systemd.told[1 : stop - 1])
        alive = [one for one in systemd.told[stop - 1 :] if not one.get("STATUS", "").startswith("stuck")]
        assert all(int(message["EXTEND_TIMEOUT_USEC"]) >= 5e6 for message in alive)


async def test_a_worker_that_starts_again_may_take_its_time(daemon: Daemon, systemd: Systemd) -> None:
    (daemon.plugins / "slow.py").write_text(MADE_SLOWLY)
    daemon.configure("10-all", TABLES.split("[connector")[0] + '[connector.slow]\ntype="slow"\n[runtime]\nworkers = 2')
    for folder in (daemon.state, daemon.state / "workers" / "1"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "go").touch()
    await daemon.start()
    killed = children(daemon)[1]
    (folder / "go").unlink()
    os.kill(killed, signal.SIGKILL)
    slow = (await daemon.until(lambda: children(daemon), lambda alive: alive.get(1) not in (None, killed)))[1]
    for _ in range(6):  # one each quarter of what a worker that is ready may be silent
        await systemd.hears("WATCHDOG", "1", after=len(systemd.told))
    (folder / "go").touch()
    await daemon.until(lambda: daemon.logged("worker runs"), lambda ready: len(ready) == 3)
    assert children(daemon)[1] == slow
    assert await daemon.stop() == 0


async def test_what_workers_accepted_that_are_no_longer_wanted_still_counts(daemon: Daemon, systemd: Systemd) -> None:
    async with Destination() as hook:
        daemon.configure("10-all", TABLES % hook.url)
        for workers in (2, 1):
            daemon.configure("05-runtime", f"[runtime]\nworkers = {workers}")
            told = len(systemd.told)
            await daemon.start()
            for _ in range(10 * (workers - 1)):
                assert (await daemon.post(b'{"events":[%s]}' % make_event()))[0] == 202
            await daemon.settled("hook", 10)
            more = ", 2 workers" if workers == 2 else ""
            await systemd.hears("STATUS", f"10 events accepted, 1 connector, nothing pending{more}", after=told)
            assert await daemon.stop() == 0


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="systemd-socket-activate is not installed")
@pytest.mark.parametrize("kind", ["tcp", pytest.param("unix", marks=pytest.mark.long)])
async def test_a_socket_that_systemd_passes_replaces_ingest_listen(
    daemon: Daemon, systemd: Systemd, tmp_path: Path, kind: str
) -> None:
    port, path = find_free_port(), tmp_path / "passed.sock"
    place = {"tcp": f"127.0.0.1:{port}", "unix": str(path)}[kind]
    daemon.wrapper = ["systemd-socket-activate", f"--listen={place}", "--setenv=NOTIFY_SOCKET", "--setenv=PYTHONPATH"]
    daemon.configure("10-all", TABLES.split("[connector")[0])
    await daemon.launch()
    await daemon.until(lambda: [line for line in daemon.stderr if line.startswith("Listening on")], bool)
    connector = aiohttp.UnixConnector(str(path)) if kind == "unix" else aiohttp.TCPConnector()
    async with aiohttp.ClientSession(connector=connector) as session:
        url = f"http://127.0.0.1:{port}/currents"
        async with asyncio.timeout(100), session.post(url, data=b'{"events":[%s]}' % make_event()) as answer:
            assert answer.status == 202
    await systemd.hears("READY", "1")
    (runs,) = await daemon.until(lambda: daemon.logged("relay runs"), bool)
    assert runs["listen"] == [f"http://{place}" if kind == "tcp" else f"unix:{place}"]
    assert [line["sockets"] for line in daemon.logged("sockets were passed to relay: ingest.listen is not used")] == [1]
    assert await daemon.stop() == 0


async def test_a_restart_behind_a_passed_socket_loses_no_connection(daemon: Daemon) -> None:
    acknowledged: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        fd = listener.fileno()
        daemon.before, daemon.inherits = PASSED % fd, [fd]
        async with Destination() as hook:
            daemon.configure("10-all", TABLES % hook.url)
            await daemon.start()
            async with asyncio.TaskGroup() as group:
                senders = [group.create_task(keep_sending(url, acknowledged), name="sender") for _ in range(8)]
                await hook.requested(5)
                assert await daemon.stop() == 0
                await daemon.start()
                await hook.requested(len(hook.requests) + 5)
                for sender in senders:
                    sender.cancel()
            await daemon.settled("hook", len(acknowledged))
            assert await daemon.stop() == 0
            assert {*acknowledged} <= {*hook.bodies()}


async def keep_sending(url: str, acknowledged: list[bytes]) -> None:
    """Post one event a connection. Raises what a connection that fails raises."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        while True:
            await send(session, url, acknowledged)


async def test_what_is_no_listening_socket_is_refused_with_a_reason(daemon: Daemon) -> None:
    daemon.before = PASSED % 0
    daemon.configure("10-all", TABLES.split("[connector")[0])
    await daemon.launch()
    assert await daemon.ended() == 1
    said = "relay cannot start: the sockets that were passed to relay: file descriptor 3 is no socket"
    assert daemon.logs[-1]["message"].startswith(said)


async def test_lines_for_journald_have_priorities_and_a_reload_changes_the_log(daemon: Daemon) -> None:
    """Of the supervisor and of workers."""
    daemon.before = 'log = os.fstat(2); os.environ["JOURNAL_STREAM"] = f"{log.st_dev}:{log.st_ino}"'
    daemon.configure("05-runtime", "[runtime]\nworkers = 2")
    daemon.configure("10-source", '[source.braze]\ntype="currents"\npath="/currents"')
    await daemon.launch()
    await daemon.until(lambda: daemon.stderr, lambda lines: "relay runs" in "".join(lines))
    assert {line[:4] for line in daemon.stderr} == {"<4>{", "<6>{"}
    assert all('"level":"warning"' in line for line in daemon.stderr if line.startswith("<4>"))
    assert any('"worker":1' in line for line in daemon.stderr)
    began = len(daemon.stderr)
    daemon.configure("06-log", '[log]\nlevel = "warning"\nformat = "console"')
    answer = await asyncio.to_thread(CliRunner().invoke, cli, ["reload", "--state", str(daemon.state)])
    assert (answer.exit_code, sorted(answer.output.splitlines())) == (0, ["log.format: changed", "log.level: changed"])
    daemon.configure("06-log", '[log]\nlevel = "loud"')
    assert (await asyncio.to_thread(CliRunner().invoke, cli, ["reload", "--state", str(daemon.state)])).exit_code == 78
    told = await daemon.until(lambda: daemon.stderr[began:], lambda lines: "not reloaded" in "".join(lines))
    assert all(line.startswith("<3>") and not line.startswith("<3>{") for line in told), told
    assert await daemon.stop() == 0
