"""Live pages: how many there can be, and what becomes of a browser that does not read."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest
import pytest_asyncio
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from relay.console import streams
from relay.console.security.refusal import ConsoleRefusal

LARGE = 1 << 20


async def show_much() -> str:
    return "x" * LARGE


@pytest_asyncio.fixture
async def url(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """A server with room for one live page, which sends much without a pause."""
    for name, value in (("MOST", 1), ("EVERY_S", 0.0), ("WRITE_S", 0.05)):
        monkeypatch.setattr(streams, name, value)
    application, pages = web.Application(), streams.Streams()
    application.router.add_get("/live", partial(send_or_refuse, pages))
    async with TestServer(application) as server:
        yield str(server.make_url("/live"))
        pages.stop()


async def send_or_refuse(pages: streams.Streams, request: web.Request) -> web.StreamResponse:
    try:
        return await pages.send(request, show_much)
    except ConsoleRefusal as refusal:
        return web.Response(status=refusal.status)


async def test_a_browser_that_does_not_read_makes_room_for_others(url: str) -> None:
    async with asyncio.timeout(30), ClientSession() as session:
        deaf = await session.get(url)  # its headers alone are read, and what the client takes in by itself
        while (answer := await session.get(url)).status == 503:
            answer.close()
        assert await answer.content.readexactly(7) == b"data: x"
        answer.close()
        deaf.close()
