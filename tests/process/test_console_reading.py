"""Long answers of relay on their way through a real console: a stand-in of relay takes its time, or breaks off."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio
from aiohttp import ClientPayloadError, StreamReader, web

pytest.importorskip("jinja2", reason="the console takes the package currents-relay[console]")

from relay.socket_path import SOCKET
from relay.store import Parked
from tests.console import Browser, RunningConsole, write_users
from tests.daemon import Daemon
from tests.forks import Forks

PARKED = Parked("braze", "hook", 3, "t", "refused", "no", 1, b'{"id":1}')
BREAK = b"break"


class SlowRelay:
    """Answers line by line, as fast as a test lets it. BREAK: the connection breaks."""

    def __init__(self) -> None:
        self.lines: asyncio.Queue[bytes] = asyncio.Queue()
        self.left = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        try:
            while line := await self.lines.get():
                if line == BREAK and request.transport is not None:
                    request.transport.abort()
                await response.write(line)
        except ConnectionError:
            self.left.set()
            raise
        return response


@pytest_asyncio.fixture
async def slow(daemon: Daemon) -> AsyncIterator[SlowRelay]:
    relay, app = SlowRelay(), web.Application()
    app.router.add_get("/journal", relay.answer)
    app.router.add_get("/parked", relay.answer)
    daemon.state.mkdir(exist_ok=True)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(daemon.state / SOCKET)).start()
    yield relay
    await runner.cleanup()


@pytest_asyncio.fixture
async def browser(daemon: Daemon, relay_forks: Forks, slow: SlowRelay) -> AsyncIterator[Browser]:
    write_users(daemon, "sven")
    console = RunningConsole(daemon.conf, daemon.state, relay_forks)
    await console.start()
    async with Browser(console.url) as browser:
        assert (await browser.sign_in("sven", "the secret of sven")).status == 303
        yield browser
    await console.stop()


async def read_until(live: StreamReader, text: str) -> str:
    page = ""
    async with asyncio.timeout(30):
        while text not in page:
            piece = await live.read(1 << 16)
            assert piece, page
            page += piece.decode()
    return page


async def test_a_page_says_how_far_relay_is_until_it_has_the_answer(slow: SlowRelay, browser: Browser) -> None:
    async with browser.session.get(f"{browser.url}/journal?read=check") as live:
        for read, shown in ((10, "read 10 of 200 events (5%)"), (100, "read 100 of 200 events (50%)")):
            slow.lines.put_nowait(b'{"read":%d,"of":200}\n' % read)
            await read_until(live.content, shown)
        for line in (b'{"read":101,"of":200}\n', b'{"ok":true,"workers":[]}\n', b""):
            slow.lines.put_nowait(line)
        rest = await read_until(live.content, "</html>")
    assert "The journal is whole." in rest
    assert "read 101" not in rest


async def test_a_reading_that_breaks_off_is_no_good_news(slow: SlowRelay, browser: Browser) -> None:
    for line in (b'{"read":10,"of":200}\n', b'{"problem":"the disk hangs"}\n', b""):
        slow.lines.put_nowait(line)
    page = (await browser.get("/journal?read=check")).text
    assert '<p class="notice" role="alert">the disk hangs</p>' in page
    assert "whole." not in page


async def test_the_reading_ends_when_the_browser_leaves(slow: SlowRelay, browser: Browser) -> None:
    async with browser.session.get(f"{browser.url}/journal?read=check") as live:
        slow.lines.put_nowait(b'{"read":10,"of":200}\n')
        await read_until(live.content, "read 10 of")
        live.close()
    async with asyncio.timeout(30):
        while not slow.left.is_set():
            slow.lines.put_nowait(b'{"read":11,"of":200}\n')
            await asyncio.sleep(0.05)


async def test_an_export_that_breaks_off_is_no_whole_file(slow: SlowRelay, browser: Browser) -> None:
    async with browser.session.get(f"{browser.url}/parked/export?number=1") as live:
        slow.lines.put_nowait(msgspec.json.encode(PARKED) + b"\n")
        assert await read_until(live.content, "\n") == '{"id":1}\n'
        slow.lines.put_nowait(BREAK)
        with pytest.raises(ClientPayloadError):
            await live.content.read()
