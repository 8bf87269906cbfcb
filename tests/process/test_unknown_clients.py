"""What anybody who reaches a listener can do to a real relay, without a token."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from click.testing import CliRunner

from relay.cli.main import relay as cli
from relay.testing import make_event
from tests.daemon import Daemon

SOURCE = '[source.braze]\ntype="currents"\npath="/currents"\n'
ARCHIVE = '[connector.archive]\ntype="file"\npath="out.ndjson"\n'
HALF = b"POST /currents HTTP/1.1\r\nHost: x\r\n"
FEW = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))"


@contextlib.asynccontextmanager
async def half_open(url: str, number: int) -> AsyncIterator[None]:
    """So many connections with half a request each."""
    writers = []
    for _ in range(number):
        if "unix:" in url:
            _, writer = await asyncio.open_unix_connection(url.partition("unix:")[2])
        else:
            host, port = url.partition("//")[2].split(":")
            _, writer = await asyncio.open_connection(host, int(port))
        writer.write(HALF)
        writers.append(writer)
    try:
        yield
    finally:
        for writer in writers:
            writer.transport.abort()


async def post(url: str) -> int:
    if "unix:" not in url:
        connector: aiohttp.BaseConnector = aiohttp.TCPConnector()
    else:
        connector, url = aiohttp.UnixConnector(url.partition("unix:")[2]), "http://relay"
    async with (
        aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(20)) as session,
        session.post(f"{url}/currents", data=make_event()) as answer,
    ):
        return answer.status


@pytest.mark.parametrize(("where", "workers"), [("tcp", 1), ("unix", 2)])
async def test_half_open_connections_do_not_use_up_the_descriptors(
    daemon: Daemon, tmp_path: Path, where: str, workers: int
) -> None:
    """Senders, deliveries and admins go on, on each kind of listener. unit/listen has TLS and the bound itself."""
    listen = f"unix:{tmp_path / 's'}" if where == "unix" else "127.0.0.1:0"
    daemon.configure("00-ingest", f'[ingest]\nlisten = "{listen}"')
    daemon.configure("10-all", f"[runtime]\nworkers = {workers}\n" + SOURCE + ARCHIVE)
    daemon.before = FEW
    await daemon.start()
    assert daemon.logged("fewer connections than ingest.max_connections")[0]["connections"] == 64
    async with half_open(daemon.url, 150 * workers):
        for _ in range(3):
            assert await post(daemon.url) == 202
        await daemon.settled("archive", 3)
        shown = await asyncio.to_thread(CliRunner().invoke, cli, ["status", "--state", str(daemon.state)])
        assert shown.exit_code == 0, shown.output
        assert "evicted" in shown.output
    assert await daemon.stop() == 0
    assert {line["level"] for line in daemon.logs} == {"info", "warning"}
    assert daemon.logged("connections without a request closed")


async def test_silent_connections_to_the_admin_socket_make_room_for_requests(daemon: Daemon) -> None:
    """More than the listener takes, and all of them held; the TCP listeners share the code."""
    daemon.configure("10-all", SOURCE + ARCHIVE)
    await daemon.start()
    with contextlib.ExitStack() as held:
        for _ in range(200):
            silent = held.enter_context(socket.socket(socket.AF_UNIX))
            await asyncio.to_thread(silent.connect, str(daemon.state / "admin.sock"))
        for _ in range(3):
            shown = await asyncio.to_thread(CliRunner().invoke, cli, ["status", "--state", str(daemon.state)])
            assert shown.exit_code == 0, shown.output
    assert await daemon.stop() == 0


async def test_no_listener_logs_what_is_no_request(daemon: Daemon, tmp_path: Path) -> None:
    """Senders', admins' and the metrics' listener: a line a minute and client, and no byte of what came."""
    (tmp_path / "token").write_text("sesame-open-77")
    daemon.configure("10-all", SOURCE + ARCHIVE + '[metrics]\nlisten = "127.0.0.1:0"\n')
    daemon.configure("20-admin", f'[admin]\nlisten = "127.0.0.1:0"\ntokens = [{{ file = "{tmp_path / "token"}" }}]')
    await daemon.start()
    (runs,) = daemon.logged("relay runs")
    urls = [*runs["listen"], *(url for url in runs["admin"] if "unix:" not in url), *runs["metrics"]]
    assert len(urls) == 3
    for url in urls:
        host, port = url.partition("//")[2].split(":")
        for number in range(20):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET /%d HTTP/1.1\r\nAuthorization: Bearer sesame-open-77\0\r\n\r\n" % number)
            async with asyncio.timeout(30):
                answer = await reader.read()
            assert b" 400 " in answer.partition(b"\r\n")[0]
            assert b"sesame" not in answer
            writer.close()
    async with aiohttp.ClientSession() as session, session.get(f"{urls[2]}/metrics") as scraped:
        text = await scraped.text()
    for name in ("ingest", "admin", "metrics"):
        assert f'relay_listener_refused_connections_total{{cause="malformed",listener="{name}"}} 20.0' in text
    assert 'relay_listener_connections{listener="ingest"}' in text
    assert await daemon.stop() == 0
    told = daemon.logged("request refused")
    assert [(line["listener"], line["status"], line["level"]) for line in told] == [
        ("ingest", 400, "warning"),
        ("admin", 400, "warning"),
        ("metrics", 400, "warning"),
    ]
    assert not any("sesame" in line or "Traceback" in line for line in daemon.stderr)
