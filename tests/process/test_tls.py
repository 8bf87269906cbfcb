"""A real relay that speaks HTTPS, and refuses by address and by rate."""

import asyncio
import signal
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from click.testing import CliRunner

from relay.cli.main import relay
from relay.testing import make_event
from tests.certificates import Authority
from tests.daemon import Daemon

OUT = '[connector.out]\ntype = "file"\npath = "out.ndjson"\n'
STUCK = """
from relay.api import Connector

class Stuck(Connector, type="stuck"):
    def __init__(self, name, settings, *, folder):
        raise OSError("never")

    async def deliver(self, batch):
        pass
"""
QUICKER = "import relay.listen.tls\nrelay.listen.tls.WATCH_S = 0.05\n"


def source(name: str, *lines: str) -> str:
    return "\n".join([f"[source.{name}]", 'type = "currents"', f'path = "/{name}"', *lines, ""])


async def test_a_renewed_certificate_is_served_without_a_restart(daemon: Daemon, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue()
    daemon.configure("05-tls", authority.table())
    daemon.configure("10-all", source("braze") + OUT)
    (daemon.plugins / "quicker.py").write_text(QUICKER)
    await daemon.start()
    assert daemon.url.startswith("https://")
    host, port = daemon.url.removeprefix("https://").split(":")

    async def serial() -> Any:
        _, writer = await asyncio.open_connection(host, int(port), ssl=trusting)
        writer.close()
        return writer.get_extra_info("peercert")["serialNumber"]

    trusting = ssl.create_default_context(cafile=str(authority.ca))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as session:

        async def post() -> int:
            async with session.post(f"{daemon.url}/braze", data=make_event()) as answer:
                return answer.status

        before = await serial()
        assert await post() == 202
        authority.issue()
        async with asyncio.timeout(30):
            while await serial() == before:
                await asyncio.sleep(0.02)
        assert await post() == 202
        with pytest.raises(aiohttp.ClientConnectionError):
            async with session.post(f"http://{host}:{port}/braze", data=make_event()):
                pass
        await daemon.settled("out", 2)
        assert await daemon.stop() == 0
    assert len(daemon.logged("certificate renewed")) == 1
    assert daemon.logged("TLS handshake failed")[0]["reason"] == "HTTP_REQUEST"
    assert not any("Traceback" in line for line in daemon.stderr)


async def test_a_certificate_that_has_expired_is_a_problem_until_it_is_renewed(daemon: Daemon, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue(days=-1)
    daemon.configure("05-tls", authority.table())
    daemon.configure("10-all", source("braze", 'allow = ["127.0.0.1"]') + OUT)
    (daemon.plugins / "quicker.py").write_text(QUICKER)
    await daemon.start()
    before = await command(daemon, "status")
    reloaded = await command(daemon, "reload")
    authority.issue(days=3)
    expiring = await seen(daemon, lambda found: found[0] == 0)
    doctor = await command(daemon, "doctor", "--conf", str(daemon.conf))
    authority.issue()
    after = await seen(daemon, lambda found: "certificate" not in found[1])
    assert before[0] == 1
    assert "certificate ingest: has expired, and senders refuse it: it is good from " in before[1]
    cure = f"; renew {authority.certificate} and {authority.key}; relay takes them within a minute; Braze disables a"
    assert cure in before[1]
    assert (reloaded[0], "nothing has changed\nwarning: certificate ingest: has expired" in reloaded[1]) == (0, True)
    assert "certificate ingest: ends at " in expiring[1]
    assert "warning  certificate ingest   ends at " in doctor[1]
    assert after[0] == 0


async def test_doctor_finds_an_expired_certificate_without_a_relay(daemon: Daemon, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue(days=-1)
    daemon.configure("05-tls", authority.table())
    code, said = await command(daemon, "doctor", "--conf", str(daemon.conf))
    assert code == 1
    assert "problem  certificate ingest   has expired, and senders refuse it" in said


async def command(daemon: Daemon, *words: str) -> tuple[int, str]:
    """What a command exits with, and what it writes."""
    done = await asyncio.to_thread(CliRunner().invoke, relay, [*words, "--state", str(daemon.state)])
    return done.exit_code, done.output


async def seen(daemon: Daemon, good: Callable[[tuple[int, str]], bool]) -> tuple[int, str]:
    """What relay status says, once it is good."""
    async with asyncio.timeout(60):
        while not good(found := await command(daemon, "status")):
            await asyncio.sleep(0.1)
    return found


async def test_a_reload_that_is_refused_leaves_the_certificate(daemon: Daemon, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue()
    daemon.configure("05-tls", authority.table())
    daemon.configure("10-all", source("braze") + OUT)
    (daemon.plugins / "stuck.py").write_text(STUCK)
    await daemon.start()
    host, port = daemon.url.removeprefix("https://").split(":")

    async def serial() -> Any:
        _, writer = await asyncio.open_connection(host, int(port), ssl=trusting)
        writer.close()
        return writer.get_extra_info("peercert")["serialNumber"]

    trusting = ssl.create_default_context(cafile=str(authority.ca))
    before = await serial()
    authority.issue()
    daemon.configure("20-stuck", '[connector.stuck]\ntype = "stuck"')
    daemon.signal(signal.SIGHUP)
    await daemon.until(lambda: daemon.logged("configuration not reloaded, the old one goes on"), bool)
    assert await serial() == before
    (daemon.conf / "20-stuck.toml").unlink()
    daemon.signal(signal.SIGHUP)
    await daemon.until(lambda: daemon.logged("configuration reloaded"), bool)
    assert await serial() != before
    assert await daemon.stop() == 0


async def test_a_wrong_key_does_not_start(daemon: Daemon, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue()
    key = authority.key.read_bytes()
    authority.issue()
    authority.key.write_bytes(key)
    daemon.configure("05-tls", authority.table())
    daemon.configure("10-all", source("braze") + OUT)
    await daemon.launch()
    assert await daemon.ended() == 78
    assert "05-tls.toml:3: ingest.tls.key: does not belong to the certificate" in daemon.stderr[0]


async def test_sources_are_reached_only_from_where_they_allow(daemon: Daemon, tmp_path: Path) -> None:
    socket = tmp_path / "s"
    daemon.configure("00-ingest", f'[ingest]\nlisten = ["127.0.0.1:0", "unix:{socket}"]\ntrusted_proxies = ["unix"]')
    tables = {"near": "127.0.0.0/8", "six": "2001:db8::/32", "unix": "unix"}
    daemon.configure("10-all", "".join(source(name, f'allow = ["{net}"]') for name, net in tables.items()) + OUT)
    await daemon.start()
    by_socket = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket)))

    async def seen(name: str, forwarded: str | None = None, *, unix: bool = False) -> int:
        headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
        if not unix:
            return int((await daemon.post(b"", f"/{name}", **headers))[0])
        async with by_socket.post(f"http://relay/{name}", data=b"", headers=headers) as answer:
            return answer.status

    async with by_socket:
        assert [await seen(name) for name in tables] == [200, 403, 403]
        assert [await seen(name, "2001:db8::1") for name in tables] == [200, 403, 403]
        assert [await seen(name, unix=True) for name in tables] == [403, 403, 200]
        assert [await seen(name, "2001:db8::1", unix=True) for name in tables] == [403, 200, 403]
        assert [await seen(name, "2001:db8::1, 127.0.0.1", unix=True) for name in tables] == [200, 403, 403]
    line = next(line for line in daemon.logged("request refused") if line["source"] == "six")
    assert line["status"] == 403
    assert "requests from 127.0.0.1 are not taken here" in line["reason"]


async def test_too_many_events_are_told_to_come_later_and_then_taken(daemon: Daemon) -> None:
    daemon.configure("10-all", source("braze", "rate = 100") + source("other") + OUT)
    await daemon.start()
    body = b'{"events":[%s]}' % b",".join(make_event() for _ in range(120))
    taken = 0
    async with aiohttp.ClientSession() as session:

        async def post() -> tuple[int, int, Any]:
            async with session.post(f"{daemon.url}/braze", data=body) as answer:
                return answer.status, int(answer.headers.get("Retry-After", 0)), orjson.loads(await answer.read())

        while (seen := await post())[0] == 202:
            taken += 120
        status, wait, problem = seen
        assert (status, problem["detail"]) == (429, "more than 100 events per second (the source's rate)")
        assert 1 <= wait <= taken / 100
        assert (await daemon.post(b"", "/braze"))[0] == 200, "a probe brings no events"
        assert (await daemon.post(body, "/other"))[0] == 202, "another source has a rate of its own"
        await asyncio.sleep(wait)
        assert (await post())[0] == 202
    books = await daemon.settled("out", taken + 240)
    assert books.accepted == taken + 240


async def test_a_reload_takes_over_the_certificate_that_a_connector_shows(daemon: Daemon, tmp_path: Path) -> None:
    """Looked at as well: what is wrong with the files then, which refuses the reload."""
    server, clients = (Authority(tmp_path / name) for name in ("server", "clients"))
    for each in (server, clients):
        each.issue()
    shown: list[str] = []

    async def handle(request: web.BaseRequest) -> web.Response:
        await request.read()
        assert request.transport is not None
        shown.append(request.transport.get_extra_info("peercert")["serialNumber"])
        return web.Response()

    wanted = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(clients.ca))
    wanted.load_cert_chain(server.certificate, server.key)
    wanted.verify_mode = ssl.CERT_REQUIRED
    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=wanted)
    await site.start()
    try:
        url = f"https://127.0.0.1:{runner.addresses[0][1]}/"
        files = f'ca = "{server.ca}"\ncertificate = "{clients.certificate}"\nkey = "{clients.key}"'
        daemon.configure("10-all", source("braze") + f'[connector.hook]\ntype = "http"\nurl = "{url}"\n{files}\n')
        await daemon.start()
        await daemon.post(make_event(), "/braze")
        await daemon.settled("hook", 1)
        clients.issue(days=3)
        assert (await command(daemon, "reload"))[0] == 0
        await daemon.post(make_event(), "/braze")
        await daemon.settled("hook", 2)
        clients.key.write_text("torn")
        code, said = await command(daemon, "reload")
        assert (code, said.splitlines()[0]) == (
            78,
            "10-all.toml:9: connector.hook: key: holds no private key in PEM form",
        )
        await daemon.post(make_event(), "/braze")
        await daemon.settled("hook", 3)
        assert await daemon.stop() == 0
    finally:
        await runner.cleanup()
    assert len(shown) == 3
    assert shown[0] != shown[1] == shown[2]
