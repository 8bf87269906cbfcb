from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from relay.api import Batch, Block, Connector, Event, Kind

SAMPLES = Path(__file__).parents[4] / "shared" / "samples" / "currents"
OPEN = Kind("braze", "users.messages.email.Open")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture(scope="session")
def samples() -> dict[str, bytes]:
    found = {path.name: path.read_bytes() for path in sorted(SAMPLES.glob("*.json"))}
    if not found:
        pytest.skip(f"no real sample events in {SAMPLES}")
    return found


def event(body: bytes | dict[str, Any], kind: Kind = OPEN, received: float = 0.0, offset: int = 0) -> Event:
    return Event(body if isinstance(body, bytes) else orjson.dumps(body), kind, offset, received)


@pytest.fixture(scope="session")  # hypothesis asks for one that outlives an example
def make_event() -> Callable[..., Event]:
    return event


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """Batches of plain events that differ by their id, or of the given events."""

    def make(*events: Event | int) -> Batch:
        made = [
            event({"event_type": OPEN.type, "id": f"id-{e}"}, offset=e) if isinstance(e, int) else e for e in events
        ]
        return Batch([Block.of(made)])

    return make


@pytest.fixture
async def connect(tmp_path: Path) -> AsyncIterator[Callable[..., Connector]]:
    """Connectors from the settings an admin would write; they are released at the end."""
    async with AsyncExitStack() as stack:

        def make(cls: type[Connector], **settings: Any) -> Connector:
            made = cls("c", cls.Settings(type=cls.type, **settings), folder=tmp_path)  # type: ignore[call-arg]
            stack.push_async_callback(made.release)
            return made

        yield make


@dataclass
class Peer:
    """A real server that remembers what it was sent and answers as it is told."""

    url: str = ""
    answer: Handler | None = None
    requests: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(await request.read())
        return await self.answer(request) if self.answer else web.Response(status=202)

    def answers(self, status: int, **options: Any) -> None:
        async def answer(request: web.Request) -> web.Response:
            return web.Response(status=status, **options)

        self.answer = answer


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    peer = Peer()
    app = web.Application(client_max_size=1 << 26)
    app.router.add_route("*", "/{path:.*}", peer.handle)
    async with TestServer(app) as server:
        peer.url = str(server.make_url("/hook"))
        yield peer
