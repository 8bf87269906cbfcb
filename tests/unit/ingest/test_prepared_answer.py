"""The answer to a request whose events are on disk."""

from pathlib import Path

import pytest

from tests.unit.ingest.raw import AUTHORIZED, BODY, GOOD, answer_of, is_closed, running

REST = b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY


def headers_of(answer: bytes) -> dict[bytes, bytes]:
    """All headers but the two that may differ."""
    lines = answer.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    pairs = dict(line.lower().split(b": ", 1) for line in lines)
    assert len(pairs.pop(b"date")) == len("Thu, 03 Dec 2026 05:22:00 GMT")
    pairs.pop(b"connection", None)
    return pairs


async def test_an_answer_on_a_lasting_connection_is_that_of_aiohttp(tmp_path: Path) -> None:
    async with running(tmp_path) as relay:
        reader, writer = await relay.connect()
        writer.write(GOOD)
        lasting = await answer_of(reader)
        writer.write(AUTHORIZED + b"Connection: close\r\n" + REST)
        last = await answer_of(reader)
        assert await is_closed(reader)
    assert lasting.startswith(b"HTTP/1.1 202 Accepted\r\n")
    assert lasting.endswith(b'\r\n\r\n{"accepted":1,"parked":0,"duplicates":0}')
    assert b"connection:" not in lasting.lower()
    assert b"connection: close" in last.lower()
    assert headers_of(lasting) == headers_of(last)
    assert lasting.partition(b"\r\n\r\n")[2] == last.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("asked", ["", "Connection: keep-alive\r\n"])
async def test_http_1_0_is_answered_in_its_own_version(tmp_path: Path, asked: str) -> None:
    async with running(tmp_path) as relay:
        reader, writer = await relay.connect()
        writer.write(AUTHORIZED.replace(b"HTTP/1.1", b"HTTP/1.0") + asked.encode() + REST)
        answer = await answer_of(reader)
        assert answer.startswith(b"HTTP/1.0 202 ")
        assert (b"connection: keep-alive" in answer.lower()) == bool(asked)
        assert asked or await is_closed(reader)


async def test_pipelined_and_chunked_requests_are_answered_in_their_order(tmp_path: Path) -> None:
    chunked = AUTHORIZED + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    empty = AUTHORIZED + b'Content-Length: 13\r\n\r\n{"events":[]}'
    async with running(tmp_path) as relay:
        reader, writer = await relay.connect()
        writer.write(GOOD + chunked + empty + GOOD)
        answers = [await answer_of(reader) for _ in range(4)]
    assert [answer.split(b" ")[1] for answer in answers] == [b"202", b"202", b"200", b"202"]
