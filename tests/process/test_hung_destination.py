"""A destination on this machine that hangs holds up its own connector and nothing else.

Looked at beside it: plugins that use asyncio's threads, look-ups of names, senders whose bodies are unpacked in a
thread, the reading of the journal, status and reload, erasures, the stop, several workers, standard output that nobody
reads.
"""

import asyncio
import fcntl
import gzip
import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from relay.cli.main import relay as cli
from relay.status.model import LaneStatus, Status
from relay.testing import Destination, make_event
from tests.daemon import Daemon
from tests.process.tables import HOOK

PLUGIN = """
import asyncio, time
from pathlib import Path
from relay.api import Connector

class Disk(Connector, type="disk"):
    async def deliver(self, batch):
        await {in_a_thread}(self.write, batch.lines())

    def write(self, lines):
        while (self.folder / "hangs").exists():
            time.sleep(0.02)
        with (self.folder / "written").open("ab") as file:
            file.write(lines)
"""
TABLES = f"""{HOOK}[connector.disk]
type = "disk"
concurrency = 2
timeout = "100ms"
batch = {{ events = 1 }}
retry = {{ first = "1ms", max = "2ms" }}
"""


def relay(daemon: Daemon, *arguments: str) -> str:
    """Run a command in this process, which is not the daemon's."""
    return CliRunner().invoke(cli, [*arguments, "--state", str(daemon.state)]).output


def lane(daemon: Daemon, name: str = "disk") -> LaneStatus:
    status = msgspec.json.decode(relay(daemon, "status", "--json"), type=Status)
    return next(one for one in status.lanes if one.connector == name)


async def send(daemon: Daemon) -> bytes:
    """Send an event in a body that is unpacked in a thread."""
    event = make_event(filling=os.urandom(100_000).hex())
    body = gzip.compress(b'{"events":[%s]}' % event)
    async with asyncio.timeout(20):
        assert (await daemon.post(body, Content_Encoding="gzip"))[0] == 202
    return event


@pytest.fixture
async def stuck(daemon: Daemon) -> AsyncIterator[Daemon]:
    """A relay one of whose connectors is about to hang."""
    daemon.state.mkdir()
    (daemon.state / "hangs").touch()
    yield daemon
    (daemon.state / "hangs").unlink(missing_ok=True)


@pytest.mark.parametrize(
    "in_a_thread", ["self.run_blocking", pytest.param("asyncio.to_thread", marks=pytest.mark.long)]
)
async def test_a_connector_that_hangs_holds_up_nobody_else(stuck: Daemon, in_a_thread: str) -> None:
    (stuck.plugins / "disk.py").write_text(PLUGIN.format(in_a_thread=in_a_thread))
    async with Destination() as hook:
        stuck.configure("10-all", TABLES % hook.url)
        await stuck.start()
        sent = [await send(stuck) for _ in range(3)]
        attempts = 2 if in_a_thread == "self.run_blocking" else 40  # more than asyncio has threads
        await stuck.until(lambda: lane(stuck).attempts["retried"], lambda made: made >= attempts)
        sent += [await send(stuck) for _ in range(3)]
        await hook.received(6, timeout=20)
        assert "nothing has changed" in relay(stuck, "reload")
        if in_a_thread == "self.run_blocking":
            assert lane(stuck).attempts["retried"] == 2
            assert "the connector's thread hangs" in getattr(lane(stuck).last_error, "reason", "")
            (stuck.state / "hangs").unlink()
            await stuck.settled("disk", 6)
            lines = (stuck.state / "written").read_bytes().splitlines()
            assert ({*lines}, len(lines)) == ({*sent}, 8)
        assert await stuck.stop() == 0


ERASING = """
    async def erase(self, users):
        with (self.folder / "written").open("ab") as file:
            file.write(b"erased\\n")
"""


async def test_events_in_a_hanging_thread_are_neither_erased_nor_sent_again(stuck: Daemon) -> None:
    """Looked at beside it: a reload, a rest, removal and return of the connector, the state after the last pending
    event was erased, the advice of status."""
    (stuck.plugins / "disk.py").write_text(PLUGIN.format(in_a_thread="self.run_blocking") + ERASING)
    held = "the connector's thread hangs, and may hold events of the user"

    def receipt() -> str:
        return relay(stuck, "erasures", "show", "1")

    def said() -> str:
        (line,) = (line for line in relay(stuck, "status").splitlines() if line.startswith("disk: failing"))
        return line

    async with Destination() as hook:
        hooked, disk = (TABLES % hook.url).split("[connector.disk]")
        disk = f"[connector.disk]{disk}"
        stuck.configure("10-hook", f'{hooked}[erasure]\nafter = "10ms"\n')
        stuck.configure("20-disk", disk)
        await stuck.start()
        event = make_event(user={"user_id": "anna"})
        assert (await stuck.post(b'{"events":[%s]}' % event))[0] == 202
        await stuck.until(lambda: lane(stuck).state, lambda state: state == "failing")
        relay(stuck, "erasures", "request", "--user-id", "anna")
        await stuck.until(receipt, lambda text: f"disk: failed ({held}" in text)
        assert lane(stuck).attempts["retried"] == 1
        assert "the connector's thread hangs" in said()
        assert "find out what it waits for" in said()

        sent = await send(stuck)
        stuck.configure("20-disk", disk.replace("events = 1", "events = 2"))
        assert "connector disk: changed" in relay(stuck, "reload")
        await stuck.until(lambda: lane(stuck).state, lambda state: state == "failing")
        (stuck.conf / "20-disk.toml").unlink()
        assert "connector disk: removed" in relay(stuck, "reload")
        stuck.configure("20-disk", disk)
        assert "the connector's thread hangs" in relay(stuck, "reload")
        await stuck.until(lambda: lane(stuck).state, lambda state: state == "failing")
        assert "the connector's thread hangs" in said()
        assert not any(lane(stuck).attempts.values())
        await hook.received(2, timeout=20)
        assert f"disk: failed ({held}" in receipt()

        (stuck.state / "hangs").unlink()
        await stuck.until(receipt, lambda text: "disk: done" in text)
        await stuck.until(lambda: lane(stuck), lambda one: (one.state, one.pending) == ("working", 0))
        lines = (stuck.state / "written").read_bytes().splitlines()
        assert lines[0] == event
        assert sorted(lines[1:]) == sorted([sent, b"erased"])
        assert await stuck.stop() == 0


IN_WORKER_1 = """
import time
from pathlib import Path
from relay.api import Connector

STATE = Path({state!r})

class Disk(Connector, type="disk"):
    async def deliver(self, batch):
        await self.run_blocking(self.write, batch.lines())

    def write(self, lines):
        while self.worker == 1 and (STATE / "hangs").exists():
            (STATE / "begun").touch()
            time.sleep(0.02)
        with (STATE / "written").open("ab") as file:
            file.write(lines)

    async def erase(self, users):
        with (STATE / "written").open("ab") as file:
            file.write(b"erased\\n")
"""


@pytest.mark.long
async def test_events_in_a_hanging_thread_of_another_worker_are_not_erased(stuck: Daemon) -> None:
    (stuck.plugins / "disk.py").write_text(IN_WORKER_1.format(state=str(stuck.state)))
    (stuck.state / "written").touch()
    event = make_event(user={"user_id": "anna"})
    async with Destination() as hook:
        stuck.configure("10-all", f'{TABLES % hook.url}[erasure]\nafter = "10ms"\n')
        stuck.configure("20-workers", "[runtime]\nworkers = 2\n")
        await stuck.start()
        while not (stuck.state / "begun").exists():
            assert (await stuck.post(b'{"events":[%s]}' % event))[0] == 202
        relay(stuck, "erasures", "request", "--user-id", "anna")
        held = "disk: failed (the connector's thread hangs, and may hold events of the user"
        await stuck.until(lambda: relay(stuck, "erasures", "show", "1"), lambda text: held in text)
        assert b"erased" not in (stuck.state / "written").read_bytes().splitlines()
        (stuck.state / "hangs").unlink()
        await stuck.until(lambda: relay(stuck, "erasures", "show", "1"), lambda text: "disk: done" in text)
        lines = (stuck.state / "written").read_bytes().splitlines()
        assert (lines.count(b"erased"), lines[-1]) == (1, b"erased"), "nothing of the user comes after that"
        assert await stuck.stop() == 0


async def test_a_lane_works_again_once_its_last_pending_event_is_erased(stuck: Daemon) -> None:
    (stuck.plugins / "disk.py").write_text(PLUGIN.format(in_a_thread="self.run_blocking"))
    async with Destination() as hook:
        hook.behaviour = 503
        stuck.configure("10-all", f'{TABLES % hook.url}[erasure]\nafter = "10ms"\n')
        await stuck.start()
        assert (await stuck.post(b'{"events":[%s]}' % make_event(user={"user_id": "anna"})))[0] == 202
        names = ("disk", "hook")
        await stuck.until(lambda: {lane(stuck, name).state for name in names}, lambda states: states == {"failing"})
        relay(stuck, "erasures", "request", "--user-id", "anna")
        await stuck.until(lambda: lane(stuck, "hook").state, lambda state: state == "working")
        assert lane(stuck).state == "failing"
        (stuck.state / "hangs").unlink()
        await stuck.until(lambda: lane(stuck), lambda one: (one.state, one.pending) == ("working", 0))
        assert await stuck.stop() == 0


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
async def test_a_stop_does_not_wait_for_a_thread_that_hangs(stuck: Daemon, workers: int) -> None:
    everywhere = PLUGIN.replace("self.folder", f"Path({str(stuck.state)!r})")  # each worker has a folder of its own
    (stuck.plugins / "disk.py").write_text(everywhere.format(in_a_thread="self.run_blocking"))
    async with Destination() as hook:
        stuck.configure("10-all", TABLES % hook.url)
        stuck.configure("20-workers", f"[runtime]\nworkers = {workers}\n" if workers > 1 else "")
        await stuck.start()
        await send(stuck)
        await stuck.until(lambda: lane(stuck).attempts["retried"], bool)
        assert await stuck.stop() == 0
    told = {line["message"] for line in stuck.logs}
    assert {"connector is not closed: a thread of it hangs", "threads do not end, relay stops without them"} <= told


async def test_a_standard_output_that_nobody_reads_holds_up_nobody_else(daemon: Daemon, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    ours = os.open(tmp_path / "fifo", os.O_RDWR | os.O_NONBLOCK)
    fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, 4096)
    daemon.stdout = tmp_path / "fifo"
    async with Destination() as hook:
        tables = (
            TABLES.replace('"disk"', '"stdout"').replace("concurrency = 2", "").replace("batch = { events = 1 }", "")
        )
        daemon.configure("10-all", tables % hook.url)
        await daemon.start()
        sent = [await send(daemon) for _ in range(3)]
        await daemon.until(lambda: lane(daemon).attempts["retried"], lambda made: made >= 10)
        await hook.received(3, timeout=20)
        came = bytearray()
        while came.count(b"\n") < 3:
            try:
                came += os.read(ours, 1 << 16)
            except BlockingIOError:
                await asyncio.sleep(0.001)
        assert sorted(came.splitlines()) == sorted(sent)  # batches that are tried again come in any order
        assert await daemon.stop() == 0
    os.close(ours)


async def test_a_name_server_that_hangs_keeps_the_threads_of_its_own_connector(daemon: Daemon) -> None:
    (daemon.plugins / "slow_names.py").write_text(
        "import socket, threading, time\nreal = socket.getaddrinfo\n"
        "def look_up(host, *more, **how):\n"
        "    if host == 'hangs.test':\n"
        "        threading.Event().wait()\n"
        "    return real(host, *more, **how)\n"
        "socket.getaddrinfo = look_up\n"
    )
    async with Destination() as hook:
        tables = TABLES.replace('"disk"', '"http"\nurl = "http://hangs.test/"')
        others = "".join(tables.split("[connector.disk]")[1].join((f"[connector.d{n}]", "")) for n in range(40))
        daemon.configure("10-all", tables % hook.url.replace("127.0.0.1", "localhost"))
        daemon.configure("20-others", others)
        await daemon.start()
        await send(daemon)
        await daemon.until(lambda: lane(daemon, "d39").attempts["retried"], bool)
        await send(daemon)
        await hook.received(2, timeout=20)
        assert await daemon.stop() == 0
