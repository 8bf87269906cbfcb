"""What comes over a connection before relay knows whose it is: no HTTP, half a request, too many of them, nothing."""

import asyncio
import errno
import resource
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop
from aiohttp import web

from relay.api import Decoded
from relay.config.address import TcpAddress, UnixAddress
from relay.config.tls import TlsSettings
from relay.ingest.intake import Intake
from relay.listen import Acceptor, Server, limits
from relay.listen import ListenerLimits as Granted
from relay.listen.limits import HEAD_BYTES, LINE_BYTES
from tests.certificates import Authority
from tests.unit.ingest.raw import AUTHORIZED, BODY, GOOD, HEALTH, TOKEN, answer_of, is_closed, running

UNREADABLE = [
    ([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"], 400, "this is TLS"),
    ([b"\x00\x01\x02\x03\r\n\r\n"], 400, "no HTTP"),
    ([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], 400, "HTTP"),
    ([b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n"], 400, "no valid path"),
    ([b"GET /a\x01 HTTP/1.1\r\nHost: x\r\n\r\n"], 400, "no valid path"),
    ([b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n"], 400, "no valid path"),
    ([AUTHORIZED.replace(b"\r\n", b"\n") + b"\n" + BODY], 400, "no HTTP"),
    ([AUTHORIZED + b"X-Scan : 1\r\n\r\n"], 400, "header"),
    ([AUTHORIZED + b"X-Bad: a\0b\r\nContent-Length: 2\r\n\r\n{}"], 400, "header"),
    ([AUTHORIZED[:-2] + b"\x01\r\n\r\n"], 400, "header"),
    ([AUTHORIZED + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"], 400, "header"),
    ([AUTHORIZED + b"Content-Length: 2x\r\n\r\n{}"], 400, "header"),
    ([AUTHORIZED + b"Transfer-Encoding: chunked\r\n\r\n" + BODY], 400, "framing"),
    ([AUTHORIZED + b"Transfer-Encoding: gzip, identity\r\n\r\n" + BODY], 400, "framing"),
    ([AUTHORIZED + b"X: " + b"j" * 2 * LINE_BYTES + b"\r\n\r\n"], 431, "longer than 32 KiB"),
    ([b"GET /" + b"j" * LINE_BYTES + b" HTTP/1.1\r\n\r\n"], 431, "longer than 32 KiB"),
    ([AUTHORIZED, *[b"X-%d: " % n + b"j" * 20_000 + b"\r\n" for n in range(4)]], 431, "longer than 64 KiB"),
    ([AUTHORIZED + b"".join(b"X-%d: v\r\n" % n for n in range(200)) + b"\r\n"], 431, "too many headers"),
    ([HEALTH[:-2] + b"Upgrade: websocket\r\nConnection: upgrade\r\n\r\n" + BODY], 400, "HTTP"),
]


@pytest.mark.parametrize(("pieces", "status", "said"), UNREADABLE)
async def test_what_is_no_request_is_refused_in_fixed_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, pieces: Sequence[bytes], status: int, said: str
) -> None:
    """Never with a byte of it, on no listener: tests/unit/admin has the admin API and the metrics, TLS is below."""
    async with running(tmp_path) as relay:
        answer = await relay.ask(*pieces)
        if b" 200 " in answer.partition(b"\r\n")[0]:  # of the request in front of it
            answer = b""
        assert not answer or answer[9:12] == b"%d" % status
        async with asyncio.timeout(30):
            while not relay.told():
                await asyncio.sleep(0.01)
        assert relay.told()[0][:2] == ("127.0.0.1", status)
        assert said in relay.told()[0][2]
        assert {one["log_level"] for one in relay.logs} == {"warning"}
        assert sum(relay.ingest.refused.values()) == len(relay.logs) == 1
        assert (await relay.ask(GOOD)).startswith(b"HTTP/1.1 202 ")
    for text in (str(relay.logs), caplog.text, answer.decode(errors="replace")):
        assert not any(leak in text for leak in (TOKEN, "jane@", "event_type", "jjjj", "X-Scan", "Traceback", "\\x"))


async def test_a_body_whose_chunks_are_broken_is_refused_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, read_timeout="1m") as relay:
        answer = await relay.ask(AUTHORIZED + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", BODY)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in answer.lower()
    assert relay.told() == [("127.0.0.1", 400, "the framing of the body is not valid HTTP/1.1")]


async def test_a_bug_is_told_with_its_place_and_without_what_a_sender_sent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as relay:
        request = GOOD.replace(b"/in", b"/buggy")
        answer = await relay.ask(request)
    assert answer.startswith(b"HTTP/1.1 500 ")
    (line,) = relay.logs
    assert (line["event"], line["log_level"], line["source"]) == ("bug in a source", "error", "buggy")
    assert line["reason"] == "decode raised ZeroDivisionError"
    assert "in decode" in line["traceback"]
    assert b"source buggy: bug in its plugin" in answer
    assert "jane@" not in str(relay.logs) + caplog.text + answer.decode()


async def test_a_bug_of_relay_is_logged_with_its_place_and_without_the_body(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def keep(_: Intake, decoded: Decoded) -> int:
        raise ZeroDivisionError(decoded.bodies)

    monkeypatch.setattr(Intake, "keep", keep)
    async with running(tmp_path) as relay:
        answer = await relay.ask(GOOD)
    assert answer.startswith(b"HTTP/1.1 500 ")
    (line,) = (one for one in relay.logs if one["event"] == "answering a request failed")
    assert (line["error"], line["log_level"], line["client"]) == ("ZeroDivisionError", "error", "127.0.0.1")
    assert "in keep" in line["traceback"]
    assert "jane@" not in str(relay.logs) + caplog.text + answer.decode()


async def test_headers_of_32_kib_are_taken(tmp_path: Path) -> None:
    """In one line, as an identity token of a load balancer is, and in many."""
    async with running(tmp_path) as relay:
        for more in (
            b"X-Amzn-Oidc-Data: " + b"j" * ((32 << 10) - 100) + b"\r\n",
            b"".join(b"X-%d: " % n + b"j" * 1000 + b"\r\n" for n in range(32)),
        ):
            whole = GOOD.replace(b"Host: x\r\n", b"Host: x\r\n" + more)
            assert (await relay.ask(whole)).startswith(b"HTTP/1.1 202 ")
            assert (await relay.ask(whole[:9000], whole[9000:])).startswith(b"HTTP/1.1 202 ")
    assert HEAD_BYTES > 2 * LINE_BYTES - 1
    assert not relay.logs


@pytest.mark.parametrize("begun", [b"", b"POST /in HTTP/1.1\r\nHost: x\r\n"])
@pytest.mark.parametrize("unix", [False, True])
async def test_who_sends_no_whole_request_is_hung_up_on(tmp_path: Path, begun: bytes, unix: bool) -> None:
    """Silent, or a header now and then; TLS is below, a slow body and a slow reader have tests of their own."""
    listen = (UnixAddress(tmp_path / "s"),) if unix else (TcpAddress("127.0.0.1", 0),)
    async with running(tmp_path, read_timeout="300ms", listen=listen) as relay:
        reader, writer = await relay.connect()
        writer.write(begun)
        async with asyncio.timeout(30):
            while not reader.at_eof() and not relay.ingest.refused["timeout"]:
                if begun:
                    writer.write(b"X-A: b\r\n")
                await asyncio.sleep(0.05)
        answer = await answer_of(reader)
        assert answer.startswith(b"HTTP/1.1 408 ") if begun else answer == b""
    reason = "no complete request came within 0.3 s (ingest.read_timeout)"
    assert relay.told() == [("unix" if unix else "127.0.0.1", 408, reason)]


async def test_the_time_of_a_next_head_counts_from_its_first_byte(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, read_timeout="200ms", idle_timeout="2s") as relay:
        reader, writer = await relay.connect()
        for _ in range(2):  # longer apart than read_timeout
            writer.write(HEALTH)
            assert b"alive" in await answer_of(reader)
            await asyncio.sleep(0.5)
        assert not relay.logs
        writer.write(HEALTH[:20])
        assert (await answer_of(reader)).startswith(b"HTTP/1.1 408 ")

        reader, writer = await relay.connect()
        writer.write(HEALTH)
        assert b"alive" in await answer_of(reader)
        assert await is_closed(reader)  # after idle_timeout, and nobody is told
        assert len(relay.logs) == 1


async def test_who_leaves_answers_unread_is_hung_up_on(tmp_path: Path) -> None:
    ask = b"GET /openapi.yaml HTTP/1.1\r\nHost: x\r\n\r\n"
    async with running(tmp_path, read_timeout="300ms") as relay:
        host, port = relay.url.partition("//")[2].split(":")
        with socket.create_connection((host, int(port))) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            async with asyncio.timeout(20):
                while not relay.told() or relay.ingest.connections:
                    with suppress(OSError):
                        client.send(ask * 30)
                    await asyncio.sleep(0.01)
    assert relay.told()[0][1:] == (408, "the answer was left unread for 0.3 s (ingest.read_timeout)")


async def test_at_the_bound_those_who_wait_longest_make_room(tmp_path: Path) -> None:
    """Whatever they wait with: nothing sent, half a head, or a request that was answered."""
    async with running(tmp_path, max_connections=3) as relay:
        silent, *_ = held = [await relay.connect() for _ in range(3)]
        held[1][1].write(HEALTH[:10])
        held[2][1].write(HEALTH)
        assert b"alive" in await answer_of(held[2][0])
        assert (await relay.ask(GOOD)).startswith(b"HTTP/1.1 202 ")
        assert await is_closed(silent[0])
        assert relay.ingest.refused["evicted"] == 1
        assert relay.ingest.connections <= 3
        (line,) = relay.logs
        assert (line["event"], line["client"], line["reason"]) == (
            "connections without a request closed",
            "127.0.0.1",
            "3 connections are open (ingest.max_connections)",
        )


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_the_last_of_many_clients_is_answered_and_connections_are_counted(
    tmp_path: Path, make_loop: Callable[[], asyncio.AbstractEventLoop], family: socket.AddressFamily
) -> None:
    async def handle(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text="here")

    async def come() -> None:
        listening = socket.socket(family)
        listening.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(tmp_path / "s"))
        listening.listen(1024)
        with ExitStack() as held:
            clients = [held.enter_context(socket.socket(family)) for _ in range(151)]
            for client in clients:
                client.connect(listening.getsockname())
                client.sendall(HEALTH[:-2])
            clients[-1].sendall(b"\r\n")
            clients[-1].setblocking(False)
            server = Server(handle, "ingest", Granted(connections=16))
            acceptor = Acceptor(server, listening)
            async with asyncio.timeout(20):
                assert b"200 OK" in await asyncio.get_running_loop().sock_recv(clients[-1], 999)
                while server.refused["evicted"] + server.connected < len(clients):
                    await asyncio.sleep(0.01)
            assert server.connected <= 16
            assert server.refused["evicted"] + server.connected == len(clients)
            acceptor.close()
            server.pre_shutdown()
            await server.shutdown(1)

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(come())


async def test_where_all_have_a_request_under_way_who_comes_is_503(tmp_path: Path) -> None:
    async with running(tmp_path, max_connections=2) as relay:
        held = [await relay.connect() for _ in range(2)]
        for _, writer in held:
            writer.write(AUTHORIZED + b"Content-Length: %d\r\n\r\n" % len(BODY))
        async with asyncio.timeout(30):
            while any(one.is_free for one in relay.ingest.server.open):  # type: ignore[union-attr]
                await asyncio.sleep(0.01)
        answer = await relay.ask()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: " in answer
        assert relay.told()[0][1] == 503
        for reader, writer in held:
            writer.write(BODY)
            assert (await answer_of(reader)).startswith(b"HTTP/1.1 202 ")
        assert (await relay.ask(GOOD)).startswith(b"HTTP/1.1 202 ")


async def test_a_tls_handshake_that_does_not_go_on_ends_in_time_and_makes_room(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue()
    tls = TlsSettings.model_validate({"certificate": str(authority.certificate), "key": str(authority.key)})
    trusting = ssl.create_default_context(cafile=str(authority.ca))
    async with running(tmp_path, tls=tls, max_connections=2, read_timeout="1s") as relay:
        held = [await relay.connect() for _ in range(2)]
        reader, writer = await relay.connect(trusting)  # the first one has to go
        assert await is_closed(held[0][0])
        writer.write(GOOD)
        assert (await answer_of(reader)).startswith(b"HTTP/1.1 202 ")
        assert await is_closed(held[1][0])  # after read_timeout
        writer.write(b"Authorization: Bearer " + TOKEN.encode() + b"\r\n\r\n")
        assert b" 400 " in (await answer_of(reader)).partition(b"\r\n")[0]
        assert relay.ingest.refused["evicted"] == 1
        assert relay.ingest.refused["timeout"] == 1
    assert TOKEN not in str(relay.logs)


async def test_a_reload_changes_the_limits_of_connections_that_are_open(tmp_path: Path) -> None:
    async with running(tmp_path, read_timeout="1h") as relay:
        reader, _ = await relay.connect()
        async with asyncio.timeout(30):
            while not relay.ingest.connections:
                await asyncio.sleep(0.01)
        relay.ingest.change([], relay.settings.model_copy(update={"read_timeout": 0.1, "max_connections": 1}))
        assert await is_closed(reader)
        held = [(await relay.connect())[0] for _ in range(2)]
        assert await is_closed(held[0])
        assert relay.ingest.refused["evicted"] + relay.ingest.refused["timeout"] > 1


async def test_half_of_the_descriptors_are_kept_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (40, 40))
    async with running(tmp_path) as relay:
        assert relay.ingest.server.bound == 20  # type: ignore[union-attr]
    (line,) = relay.logs
    assert (line["event"], line["connections"]) == ("fewer connections than ingest.max_connections", 20)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((1024, 524_288), (65_536, 524_288)),
        ((1024, 4096), (4096, 4096)),
        ((1024, -1), (65_536, -1)),
        ((80_000, -1), None),
    ],
)
def test_the_limit_of_descriptors_is_raised_as_far_as_need_be(
    monkeypatch: pytest.MonkeyPatch, before: tuple[int, int], after: tuple[int, int] | None
) -> None:
    raised = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: before)
    monkeypatch.setattr(resource, "setrlimit", lambda _, given: raised.append(given))
    limits.raise_descriptor_limit()
    assert raised == ([after] if after else [])


async def test_without_a_descriptor_left_who_connects_waits_and_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(socket.socket):
        left = 2

        def accept(self) -> Any:
            if Full.left:
                Full.left -= 1
                raise OSError(errno.EMFILE, "Too many open files")
            return super().accept()

    monkeypatch.setattr("relay.listen.acceptor.REST_S", 0.05)
    async with running(tmp_path) as relay:
        listening = Full()
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        assert relay.ingest.server is not None
        acceptor = Acceptor(relay.ingest.server, listening)
        relay.url = "http://{}:{}".format(*listening.getsockname())
        assert (await relay.ask(GOOD)).startswith(b"HTTP/1.1 202 ")
        acceptor.close()
    told = [(one["event"], one["log_level"], one["reason"]) for one in relay.logs]
    assert told == [("no connection can be accepted", "error", "Too many open files")] * 2
