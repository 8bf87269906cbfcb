"""Live pages: a stream of server-sent events, each with the fragment of a page that has changed.

A browser that does not read is left after WRITE_S, and streams beyond MOST are refused. All streams show one status,
for which the console asks relay once.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from aiohttp import web

from relay.console.security.refusal import ConsoleRefusal

MOST: Final = 32
EVERY_S: Final = 2.0
WRITE_S: Final = 10.0

Render = Callable[[], Awaitable[str | None]]
"""Returns the fragment as it is now; None ends the stream."""


class Streams:
    """The open streams."""

    def __init__(self) -> None:
        self._open = 0
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End all streams soon."""
        self._stopping.set()

    async def send(self, request: web.Request, render: Render) -> web.StreamResponse:
        """Send a fragment every EVERY_S, until the browser leaves. Raises ConsoleRefusal (503)."""
        if self._open >= MOST:
            raise ConsoleRefusal(503, f"{MOST} live pages are open already: close one of them", {"Retry-After": "10"})
        self._open += 1
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        try:
            await response.prepare(request)
            while (fragment := await render()) is not None:
                lines = "".join(f"data: {line}\n" for line in fragment.splitlines())
                async with asyncio.timeout(WRITE_S):
                    await response.write(f"{lines}\n".encode())
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), EVERY_S)
                if self._stopping.is_set():
                    break
        except (TimeoutError, ConnectionError):
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._open -= 1
        return response
