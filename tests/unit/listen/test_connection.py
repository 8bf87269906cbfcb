"""What becomes of a listener's connections, whatever their clients do: raw sockets, on both event loops."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import pytest
import uvloop
from aiohttp import StreamReader, web
from aiohttp.test_utils import make_mocked_request
from structlog.testing import capture_logs

from relay.config.address import TcpAddress
from relay.config.model import IngestSettings
from relay.ingest.body import Body
from relay.ingest.body_memory import BodyMemory
from relay.ingest.problem import Problem
from relay.listen import Acceptor, AppRunner, ListenerLimits, Server
from relay.listen.connection import Connection

RESET = struct.pack("ii", 1, 0)
HALF = b"POST /in HTTP/1.1\r\nHost: x\r\n"
BODY_BEGUN = HALF + b"Content-Length: 900\r\n\r\n{"
WHOLE = HALF + b"Content-Length: 2\r\n\r\n{}"
JUNK = b"\x00junk\r\n\r\n"
LOOPS = pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
MakeLoop = Callable[[], asyncio.AbstractEventLoop]


class Listener:
    """A server that reads bodies, its port, and what went wrong in its event loop."""

    def __init__(self, server: Server, port: int) -> None:
        self.server, self.port = server, port
        self.mistakes: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.mistakes.append(context))

    def connect(self, data: bytes = b"") -> socket.socket:
        """A connection whose first bytes are there before it is accepted."""
        client = socket.create_connection(("127.0.0.1", self.port))
        client.sendall(data)
        client.setblocking(False)
        return client

    def reset(self, data: bytes = b"") -> None:
        client = self.connect(data)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()

    async def ask(self, data: bytes) -> bytes:
        with self.connect(data) as client:
            return await answer_of(client)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.01)


async def answer_of(client: socket.socket) -> bytes:
    async with asyncio.timeout(30):
        return await asyncio.get_running_loop().sock_recv(client, 999)


async def read_body(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(body=await request.read())


@asynccontextmanager
async def listening(
    limits: ListenerLimits, handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] = read_body
) -> AsyncIterator[Listener]:
    server = Server(handle, "ingest", limits)
    bound = socket.create_server(("127.0.0.1", 0), backlog=1024)
    acceptor = Acceptor(server, bound)
    try:
        yield Listener(server, bound.getsockname()[1])
    finally:
        acceptor.close()
        server.pre_shutdown()
        await server.shutdown(1)


def run(make_loop: MakeLoop, scene: Callable[[], Any]) -> list[Any]:
    """Play a scene; return what was logged."""
    with capture_logs() as logs, asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(scene())
    return list(logs)


@LOOPS
def test_reset_connections_leave_room_and_time_limits_intact(make_loop: MakeLoop) -> None:
    """With nothing sent, half a head, half a body and a whole request; beyond the bound, many times over."""

    async def scene() -> None:
        async with listening(ListenerLimits(head=0.5, connections=16)) as listener:
            for number in range(300):
                listener.reset((b"", HALF, BODY_BEGUN, WHOLE)[number % 4])
                if number % 50 == 0:
                    await asyncio.sleep(0.01)
            await listener.until(lambda: not listener.server.connected)
            with ExitStack() as held:
                halves = [held.enter_context(listener.connect(HALF)) for _ in range(16)]
                assert b"200 OK" in await listener.ask(WHOLE)
                assert b" 408 " in await answer_of(halves[-1])
            await listener.until(lambda: not listener.server.connected)
            assert not listener.mistakes

    logs = run(make_loop, scene)
    assert not [line for line in logs if line["log_level"] == "error"]
    assert {line["client"] for line in logs} == {"127.0.0.1"}  # also of who has gone


@LOOPS
def test_a_head_that_comes_with_the_connection_and_stops_is_answered_408(make_loop: MakeLoop) -> None:
    async def scene() -> None:
        async with listening(ListenerLimits(head=0.2)) as listener:
            assert b" 408 " in await listener.ask(HALF)
            assert await listener.ask(b"") == b""

    assert [line["status"] for line in run(make_loop, scene)] == [408, 408]


@LOOPS
def test_a_connection_that_a_browser_opens_ahead_ends_without_a_word(make_loop: MakeLoop) -> None:
    async def scene() -> None:
        async with listening(ListenerLimits(head=0.2, opens_ahead=True)) as listener:
            assert await listener.ask(b"") == b""
            assert listener.server.refused["timeout"] == 0
            assert b" 408 " in await listener.ask(HALF)

    assert [line["status"] for line in run(make_loop, scene)] == [408]


@LOOPS
def test_a_client_that_leaves_the_last_answer_unread_is_hung_up_on(make_loop: MakeLoop) -> None:
    """aiohttp forgets a transport that it has begun to close; such a connection stays counted until it is gone."""

    async def scene() -> None:
        async with listening(ListenerLimits(head=0.2)) as listener:
            with listener.connect():
                await listener.until(lambda: listener.server.open)
                (connection,) = listener.server.open
                assert connection.transport is not None
                connection.transport.write(b"x" * (32 << 20))
                connection.force_close()
                assert connection.transport is None
                await listener.until(lambda: not listener.server.connected)
            assert listener.server.refused["timeout"] == 1

    assert [line["status"] for line in run(make_loop, scene)] == [408]


@LOOPS
def test_a_bug_in_one_connection_ends_neither_the_look_nor_the_accepting(
    make_loop: MakeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "sesame-open-77"

    def fail(*_: object) -> None:
        monkeypatch.undo()
        raise ZeroDivisionError(secret)

    async def scene() -> None:
        async with listening(ListenerLimits(head=0.2)) as listener:
            monkeypatch.setattr(listener.server, "has_room", fail)
            assert await listener.ask(b"") == b""
            assert b"200 OK" in await listener.ask(WHOLE)
            monkeypatch.setattr(Connection, "close_if_late", fail)
            with listener.connect(HALF), listener.connect(HALF) as second:
                assert b" 408 " in await answer_of(second)
            assert listener.server.refused["bug"] == 2
            assert not listener.mistakes

    told = [line for line in run(make_loop, scene) if line["event"] == "answering a request failed"]
    assert [(line["error"], line["client"]) for line in told] == [("ZeroDivisionError", "127.0.0.1")] * 2
    assert secret not in str(told)


@LOOPS
def test_a_handler_whose_client_has_left_is_no_bug(make_loop: MakeLoop) -> None:
    """As it reads the body, at the admin API; a source's body is below."""
    begun = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        begun.append(request)
        while request.transport is not None:
            await asyncio.sleep(0.01)
        request.content._exception = None  # as if the client had gone before the handler began
        return await read_body(request)

    async def scene() -> None:
        async with listening(ListenerLimits(), handle) as listener:
            client = listener.connect(BODY_BEGUN)
            await listener.until(lambda: begun)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.close()
            await listener.until(lambda: not listener.server.connected)
            await asyncio.sleep(0.1)
            assert not listener.mistakes

    assert not run(make_loop, scene)


async def test_a_source_whose_sender_left_before_the_read_is_no_bug() -> None:
    class Gone:
        connected = False

    content = StreamReader(Gone(), 1 << 16, loop=asyncio.get_running_loop())  # type: ignore[arg-type]
    request = make_mocked_request("POST", "/in", {"Content-Length": "9"}, payload=content)
    request.protocol.transport = None
    with (
        Body(request, IngestSettings(listen=(TcpAddress("127.0.0.1", 0),)), BodyMemory(1 << 20)) as body,
        pytest.raises(Problem) as told,
    ):
        await body.read()
    assert (told.value.status, "broke off" in told.value.detail) == (408, True)


@LOOPS
def test_a_whole_request_is_answered_whatever_comes_behind_it(make_loop: MakeLoop) -> None:
    """Behind it in another piece: of one piece, aiohttp's parser gives the error alone."""
    begun: list[web.BaseRequest] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        begun.append(request)
        while not request.protocol._messages:
            await asyncio.sleep(0.01)
        return await read_body(request)

    async def scene() -> None:
        async with listening(ListenerLimits(), handle) as listener:
            with listener.connect(WHOLE) as client:
                await listener.until(lambda: begun)
                client.sendall(JUNK)
                assert b"200 OK" in await answer_of(client)

    assert [line["status"] for line in run(make_loop, scene)] == [400]


async def test_an_expectation_that_is_not_met_is_not_repeated() -> None:
    """At the admin API and the metrics, which share this runner; a source takes no notice of it."""
    app = web.Application()
    app.router.add_get("/metrics", read_body)
    runner = AppRunner(app, "metrics", ListenerLimits())
    await runner.setup()
    bound = socket.create_server(("127.0.0.1", 0))
    acceptor = Acceptor(runner.within, bound)
    listener = Listener(runner.within, bound.getsockname()[1])
    with capture_logs() as logs:
        answer = await listener.ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\nExpect: sesame-open-77\r\n\r\n")
    acceptor.close()
    await runner.cleanup()
    assert b" 417 " in answer
    assert b"sesame" not in answer
    assert [(line["listener"], line["status"]) for line in logs] == [("metrics", 417)]
