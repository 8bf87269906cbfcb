"""Whatever becomes of relay's standard streams, senders and deliveries go on.

Looked at beside it: several workers, which share the streams; the connector `stdout`; a start without any of them.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from click.testing import CliRunner

from relay.cli.main import relay as cli
from relay.testing import Destination, make_event
from tests.daemon import Daemon

TABLES = """
[source.braze]
type = "currents"
path = "/currents"
[ingest]
listen = "127.0.0.1:%d"
[connector.hook]
type = "http"
url = "%s"
[connector.out]
type = "stdout"
"""

CLOSED = [sys.executable, "-c", "import os, sys; os.closerange(0, 3); os.execv(sys.argv[1], sys.argv[1:])"]


def stalled() -> int:
    """The end to write of a pipe that is full and that nobody reads."""
    _, end = os.pipe()  # the other end stays open as long as this process
    os.set_blocking(end, False)
    try:
        while os.write(end, bytes(4096)):
            pass
    except BlockingIOError:
        os.set_blocking(end, True)
    return end


def unread() -> int:
    """The end to write of a pipe whose reader is gone."""
    reader, end = os.pipe()
    os.close(reader)
    return end


def full() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


async def started(daemon: Daemon, url: str, port: int) -> None:
    """Start relay without its log, and wait until it takes events."""
    (daemon.conf / "00-ingest.toml").unlink()
    daemon.configure("10-all", TABLES % (port, url))
    daemon.url = f"http://127.0.0.1:{port}"
    await daemon.launch()
    async with asyncio.timeout(60), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(daemon.url + "/readyz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("error", "workers"), [(stalled, 1), pytest.param(stalled, 2, marks=pytest.mark.long), (unread, 1), (full, 1)]
)
async def test_a_log_that_cannot_be_written_holds_up_nothing(
    daemon: Daemon, error: Callable[[], int], workers: int
) -> None:
    fd = error()
    daemon.before, daemon.inherits = f"os.dup2({fd}, 2)", [fd]
    daemon.configure("20-workers", f"[runtime]\nworkers = {workers}\n")
    async with Destination() as hook:
        await started(daemon, hook.url, free_port())
        for number in range(30):  # each of these is worth a line
            for body, path, said in ((b"{}", f"/wrong/{number}/" + "x" * 150, 404), (b"[x", "/currents", 400)):
                may_wait = workers > 1 or said == 400  # a worker is slow to start on a busy machine; so is a disk
                while (status := (await daemon.post(body, path))[0]) == 503 and may_wait:
                    await asyncio.sleep(0.1)
                assert status == said
        assert (await daemon.post(b'{"events":[%s]}' % make_event()))[0] == 202
        await hook.received(1, timeout=60)
        assert "braze" in CliRunner().invoke(cli, ["status", "--state", str(daemon.state)]).output
        assert await daemon.stop() == 0


async def test_streams_that_are_closed_are_no_files_of_relay(daemon: Daemon) -> None:
    daemon.wrapper = CLOSED
    async with Destination() as hook:
        await started(daemon, hook.url, free_port())
        assert (await daemon.post(b'{"events":[%s]}' % make_event()))[0] == 202
        await hook.received(1, timeout=60)
        streams = Path(f"/proc/{daemon.pid}/fd")
        assert {str((streams / str(number)).readlink()) for number in range(3)} == {os.devnull}
        output = CliRunner().invoke(cli, ["status", "--state", str(daemon.state)]).output
        assert "standard output is closed" in output
        assert await daemon.stop() == 0
