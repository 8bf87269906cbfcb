"""What senders send as a body, and how: announced, in codings, with a length or without."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.ingest.body import CHUNK_BYTES, MEMBERS, choose_window_bits, decompress, fast_zlib, parse_coding
from relay.ingest.paths import guess_path, mask_path
from relay.ingest.problem import Problem
from tests.unit.ingest.raw import AUTHORIZED, BODY, Relay, answer_of, running

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
EXPECT = b"Expect: 100-continue\r\n\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)


def bare(body: bytes) -> bytes:
    """Deflate without a frame, as .NET's DeflateStream writes it."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[Relay]:
    async with running(tmp_path) as relay:
        yield relay


@pytest.mark.parametrize("length", [LENGTH, b"Transfer-Encoding: chunked\r\n"])
async def test_who_waits_to_be_told_to_go_on_is_told_and_then_answered(relay: Relay, length: bytes) -> None:
    """Looked at as well: what stands against it (below), the admin API, to which aiohttp says that by itself, and the
    503 for a worker that is away, which asks for no body."""
    reader, writer = await relay.connect()
    for _ in range(2):
        writer.write(AUTHORIZED + length + EXPECT)
        async with asyncio.timeout(30):
            assert await reader.readexactly(len(CONTINUE)) == CONTINUE
        writer.write(BODY if length is LENGTH else b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY))
        assert (await answer_of(reader)).startswith(b"HTTP/1.1 202 ")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (AUTHORIZED.replace(b"sesame", b"wrong") + LENGTH, 401),
        (AUTHORIZED + b"Content-Length: 1000000000\r\n", 413),
        (AUTHORIZED + LENGTH + b"Content-Encoding: br\r\n", 415),
        (AUTHORIZED.replace(b"/in", b"/on") + LENGTH, 404),
        (AUTHORIZED.replace(b"POST", b"PUT") + LENGTH, 405),
        (AUTHORIZED, 411),
    ],
)
async def test_what_stands_against_a_request_is_said_instead(relay: Relay, head: bytes, status: int) -> None:
    """Also 403 and a stop, which are decided before the body is looked at."""
    answer = await relay.ask(head + EXPECT)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    if b"Content-Length" in head:  # what comes next may be the body that was announced, or another request
        assert b"connection: close" in answer.lower()


async def test_while_relay_stops_nobody_is_told_to_go_on(relay: Relay) -> None:
    reader, writer = await relay.connect()
    await relay.ingest.drain()
    writer.write(AUTHORIZED + LENGTH + EXPECT)
    assert (await answer_of(reader)).startswith(b"HTTP/1.1 503 ")


async def test_http_1_0_knows_no_100_and_a_body_that_is_there_needs_none(relay: Relay) -> None:
    old = AUTHORIZED.replace(b"HTTP/1.1", b"HTTP/1.0")
    for pieces in ((old + LENGTH + EXPECT, BODY), (AUTHORIZED + LENGTH + EXPECT + BODY,)):
        assert b" 202 " in (await relay.ask(*pieces)).partition(b"\r\n")[0]


async def test_a_post_without_a_length_is_411_and_its_body_no_request(relay: Relay) -> None:
    answer = await relay.ask(AUTHORIZED + b"\r\n", BODY)
    assert answer.startswith(b"HTTP/1.1 411 ")
    assert b"connection: close" in answer.lower()
    assert [status for _, status, _ in relay.told()] == [411]
    assert (await relay.ask(AUTHORIZED + b"Content-Length: 0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    wrong = AUTHORIZED.replace(b"sesame", b"wrong")
    assert (await relay.ask(wrong + b"\r\n")).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        (b"", bytes),
        (b" identity", bytes),
        (b"GZIP", gzip.compress),
        (b"gzip, identity", gzip.compress),
        (b"x-gzip", lambda body: gzip.compress(body[:9]) + gzip.compress(body[9:]) + bytes(512)),
        (b"deflate", zlib.compress),
        (b"deflate", bare),
    ],
)
async def test_bodies_as_clients_pack_them_are_taken(
    relay: Relay, coding: bytes, pack: Callable[[bytes], bytes]
) -> None:
    """Looked at as well: long headers on all listeners (test_unknown_clients.py), the admin API, where aiohttp unpacks,
    and answers of destinations (tests/unit/plugins/test_http_answers.py)."""
    packed = pack(BODY)
    head = AUTHORIZED + b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (coding, len(packed))
    assert b'"accepted":1' in await relay.ask(head + packed)


@pytest.mark.parametrize("header", ["br", "zstd", "utf-8", "gzip, deflate", "gzip, br", "gzip;q=1"])
def test_other_codings_are_not_supported(header: str) -> None:
    with pytest.raises(Problem, match="not supported") as found:
        parse_coding(header)
    assert found.value.status == 415


@given(
    body=st.binary(max_size=300),
    how=st.sampled_from([("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", bare)]),
    zeros=st.integers(0, 20),
)
def test_what_is_packed_is_unpacked(body: bytes, how: tuple[str, Any], zeros: int) -> None:
    coding, pack = how
    packed = pack(body) + bytes(zeros if coding == "gzip" else 0)
    assert decompress(packed, choose_window_bits(coding, packed), 1000) == body


def test_empty_gzip_members_are_limited_and_get_no_copy_of_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at as well: deflate, which has one member, zeros behind the last one, and bombs (in tests/process)."""
    fed, make = list[int](), fast_zlib.decompressobj

    def decompressobj(**options: Any) -> Any:
        member = make(**options)

        def feed(chunk: bytes, room: int) -> bytes:
            fed.append(len(chunk))
            part: bytes = member.decompress(chunk, room)
            said.eof, said.unused_data = member.eof, member.unused_data
            return part

        said = SimpleNamespace(decompress=feed)
        return said

    monkeypatch.setattr(fast_zlib, "decompressobj", decompressobj)
    empty, last = gzip.compress(b"", mtime=0), gzip.compress(Random(1).randbytes(1 << 20), mtime=0)
    assert len(decompress(empty * 500 + last, 31, 2 << 20)) == 1 << 20
    assert sum(fed) < 501 * CHUNK_BYTES + len(last)
    assert decompress(empty * MEMBERS, 31, 1000) == b""
    with pytest.raises(zlib.error, match="more than 10000 members"):
        decompress(empty * (MEMBERS + 1), 31, 1000)


@pytest.mark.parametrize("tail", [b"\0\0x", b"x", b"\0" + gzip.compress(b"more", mtime=0)])
def test_junk_behind_a_gzip_member_is_an_error(tail: bytes) -> None:
    with pytest.raises((zlib.error, fast_zlib.error, EOFError)):
        decompress(gzip.compress(b"body", mtime=0) + tail, 31, 1000)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/currents/", "/currents"),
        ("//currents", "/currents"),
        ("/Currents", "/currents"),
        ("/currents ", "/currents"),
        ("/relay/currents", "/currents"),
        ("/braze/v1", "/braze/v1/"),
        ("/v1", None),
        ("/current", None),
        ("/mycurrents", None),
        ("/", None),
    ],
)
def test_the_path_that_was_meant_is_found(path: str, expected: str | None) -> None:
    assert guess_path(path, ["/currents", "/braze/v1/"]) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/braise", "/braise"),
        ("/Braze/v1/", "/Braze/v1/"),
        ("/in/sesame-open-77", "/in/…"),
        ("/jane@customer.example/in", "/…/in"),
        ("/in\n", "/…"),
        ("/" + "a" * 300, "/…"),
    ],
)
def test_of_a_path_only_what_a_source_could_have_is_told(path: str, expected: str) -> None:
    assert mask_path(path) == expected
    assert len(mask_path("/a" * 9999)) <= 200


@pytest.mark.parametrize(
    ("header", "told"),
    [("br", "'br'"), ("gzip, gzip", "'gzip, gzip'"), ("Bearer sesame-open-77", "'…'"), ("br," * 999, "'br, br, br'")],
)
def test_of_a_content_encoding_only_the_name_of_a_coding_is_told(header: str, told: str) -> None:
    with pytest.raises(Problem, match="is not supported") as problem:
        parse_coding(header)
    assert problem.value.detail == f"Content-Encoding {told} is not supported; send gzip, deflate or none"


async def test_a_sender_at_nearly_the_right_path_is_told_which_one_was_meant(relay: Relay) -> None:
    answer = await relay.ask(AUTHORIZED.replace(b"/in", b"/in/") + LENGTH + b"\r\n" + BODY)
    reason = "no source has the path /in/; the path of source braze is /in"
    assert reason.encode() in answer
    assert relay.told() == [("127.0.0.1", 404, reason)]
