"""Answers as destinations give them: by hand, for no HTTP server would send most of them."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from relay.api import Reject, Retry
from relay.guests import run_limited
from relay.testing import Answer, Destination
from relay_plugins.heap import Heap
from relay_plugins.http import Http

LONG_HEADER = b"Content-Security-Policy: " + b"https://a.example " * 5000 + b"\r\n"
MANY_HEADERS = b"".join(b"X-%d: y\r\n" % number for number in range(4000))
OK = b"HTTP/1.1 200 OK\r\n"
END = b"Content-Length: 2\r\n\r\nok"
GOOD = {
    "a header of 90 kB": OK + LONG_HEADER + END,
    "4,000 headers": OK + MANY_HEADERS + END,
    "a head of 600 kB": OK + LONG_HEADER * 7 + END,
    "9,000 headers": OK + MANY_HEADERS * 2 + b"X: y\r\n" * 1000 + END,
    "a line of 150 kB": OK + b"X: " + b"y" * 150_000 + b"\r\n" + END,
    "a head without an end": OK + b"X: " + b"y" * 1_000_000,
    "a long reason": b"HTTP/1.1 200 " + b"y" * 150_000 + b"\r\n" + END,
    "no reason": b"HTTP/1.1 200\r\n" + END,
    "Content-Length twice, equal": OK + b"Content-Length: 2\r\n" + END,
    "Content-Length twice, different": OK + b"Content-Length: 3\r\n" + END,
    "a Content-Length that is none": OK + b"Content-Length: two\r\n\r\nok",
    "Content-Length and chunks": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "chunks that are none": OK + b"Transfer-Encoding: chunked\r\n\r\nok",
    "an unknown Transfer-Encoding": OK + b"Transfer-Encoding: magic\r\n\r\nok",
    "a header without a name": OK + b": y\r\n" + END,
    "a header without a colon": OK + b"nonsense\r\n" + END,
    "NUL in a header": OK + b"X: a\0b\r\n" + END,
    "a body on a 204": b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
    "a body on a 204, without a length": b"HTTP/1.1 204 No Content\r\n\r\n<html>",
    "a coding that is not installed": OK + b"Content-Encoding: br\r\n" + END,
    "a coding that nobody knows": OK + b"Content-Encoding: magic\r\n" + END,
    "gzip that is none": OK + b"Content-Encoding: gzip\r\n" + END,
    "a head that breaks off": OK + b"X: y\r\nContent-Le",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\nok",
    "100 before": b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n" + END,
    "103 before": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK + END,
}


@asynccontextmanager
async def answering(answer: bytes, *, pieces: int = 1, stalls: bool = False) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that gives these bytes, in so many pieces, to every request, and hangs up or goes silent.

    Gives its URL and the requests."""
    requests: list[bytes] = []
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        requests.append(head + await reader.readexactly(length))
        size = -(-len(answer) // pieces)
        try:
            for at in range(0, len(answer), size):
                writer.write(answer[at : at + size])
                await writer.drain()
                await asyncio.sleep(0)
            if stalls:
                await over.wait()
            writer.close()
            await writer.wait_closed()
        except ConnectionError:
            pass

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", requests
        finally:
            over.set()


@pytest.fixture(params=[1, 20], ids=["at once", "in pieces"])
def pieces(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.mark.parametrize("name", GOOD)
async def test_a_2xx_counts_whatever_the_rest_of_the_answer_is(connect, make_batch, name, pieces):
    """Looked at as well: refusals and Retry-After (below), `heap` and `braze_cohorts`, which send by the same `post`;
    `relay send` and the supervisor only talk to relay itself."""
    async with answering(GOOD[name], pieces=pieces) as (url, requests):
        assert await connect(Http, url=url).deliver(make_batch(1)) is None
    assert len(requests) == 1


async def test_a_plugin_with_a_session_of_its_own_reads_such_an_answer_too(connect, make_batch):
    async with answering(GOOD["Content-Length twice, equal"]) as (url, _):
        connector = connect(Http, url=url)
        async with connector.http.post(url, data=b"x") as answer:
            connector.check(answer)
            assert answer.status == 200


async def test_a_refusal_keeps_its_status_and_its_wait(connect, make_batch):
    twice = b"Content-Length: 2\r\nContent-Length: 2\r\n"
    async with answering(b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n" + twice + b"\r\nno") as (url, _):
        with pytest.raises(Retry, match="HTTP 503") as busy:
            await connect(Http, url=url).deliver(make_batch(1))
        assert busy.value.after == 7
    async with answering(b"HTTP/1.1 400 Bad Request\r\n" + twice + b"\r\nno") as (url, _):
        with pytest.raises(Reject, match="HTTP 400"):
            await connect(Heap, endpoint=url).deliver(make_batch(1))


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "its answer is no HTTP: Bad status line"),
        (b"\x15\x03\x01\x00\x02\x02\x16", "its answer is no HTTP: Bad status line"),
        (b"HTTP/1.1 two OK\r\n\r\n", "its answer is no HTTP: Bad status line: Invalid status"),
        (b"HTTP/1", "closed the connection without an answer"),
        (b"HTTP/1.1 102 Processing\r\n\r\n", "closed the connection without an answer"),
        (b"HTTP/1.1 102 Processing\r\n\r\n" * 50_000, "its answer is no HTTP: no status but 1xx in its first 300 KiB"),
    ],
)
async def test_the_reason_says_what_is_wrong_with_an_answer_that_is_no_http(connect, make_batch, answer, what):
    """Looked at as well: answers of GOOD that were changed at random, of which none raises anything else."""
    async with answering(answer) as (url, _):
        with pytest.raises(Retry, match=rf"^127\.0\.0\.1:\d+:? {what}") as failed:
            await connect(Http, url=url).deliver(make_batch(1))
    assert len(failed.value.reason) < 250


@pytest.mark.parametrize(("coding", "said"), [("gzip", "the reason"), ("br", "")])
async def test_a_coded_reason_is_told_if_it_can_be_read(connect, peer, make_batch, coding, said):
    body = gzip.compress(b"the reason") if coding == "gzip" else b"\x0b\x02\x80hello\x03"
    head = b"HTTP/1.1 400 Bad\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (coding.encode(), len(body))
    async with answering(head + body) as (url, requests):
        with pytest.raises(Reject) as refused:
            await connect(Http, url=url).deliver(make_batch(1))
    assert refused.value.answer == said
    assert b"\r\nAccept-Encoding: identity\r\n" in requests[0]


async def test_a_connection_whose_answer_was_odd_is_not_used_again(connect, make_batch):
    async with answering(GOOD["a body on a 204"]) as (url, requests):
        http = connect(Http, url=url)
        for number in range(3):
            await http.deliver(make_batch(number))
    assert len(requests) == 3


TARGETS = [
    "/workflows/a%2Fb/run?api-version=2016-06-01&sp=%2Ftriggers%2Fmanual%2Frun&sig=AbC%2Bd%2F9%3D",
    "/h?user=a%40b.example&when=10%3A30&x=%28y%29",
    "/h/%7Euser/%41bc",
    "/h?a=b+c&d=e%20f",
    "/h?q=caf%c3%a9",
    "/h?empty=&flag",
    "/a//b/./../c?x=;y",
    "/h?{a}|b^c\\d'e[f]",
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("type", [Http, Heap])
async def test_a_url_is_sent_byte_for_byte_as_it_is_configured(connect, make_batch, type, target):
    """Looked at as well: Braze's endpoint and Heap's API, which put a path behind theirs and send by the same `post`;
    `reach` only takes the host."""
    async with answering(OK + END) as (url, requests):
        await connect(type, **{"url" if type is Http else "endpoint": url + target}).deliver(make_batch(1))
    assert requests[0].split(b" ")[1] == target.encode()


async def test_an_endpoint_keeps_its_path_in_front_of_heaps_own(connect, make_batch, make_event):
    event = make_event({"id": "1", "user": {"external_user_id": "anna"}})
    async with answering(OK + END) as (url, requests):
        heap = connect(Heap, mode="api", app_id="1", endpoint=url + "/a%2Fb//c/")
        await heap.deliver(make_batch(event))
    assert requests[0].split(b" ")[1] == b"/a%2Fb//c/api/track"


@pytest.mark.parametrize(
    ("written", "sent"),
    [("/a b?q=café", b"/a%20b?q=caf%C3%A9"), ("/a#part", b"/a"), ("", b"/"), ("?a=%40", b"/?a=%40")],
)
async def test_only_what_no_request_can_hold_is_encoded(connect, make_batch, written, sent):
    async with answering(OK + END) as (url, requests):
        await connect(Http, url=url + written).deliver(make_batch(1))
    assert requests[0].split(b" ")[1] == sent


@pytest.mark.parametrize("url", ["http://h/a\nb", "http://h/a\tb", "http://h/\x7f", "\x00http://h/"])
def test_a_url_with_control_characters_is_a_mistake(url):
    with pytest.raises(ValueError, match="URL"):
        Http.Settings(type="http", url=url)


async def test_a_connection_that_is_slow_with_its_head_is_given_up_in_time(connect, make_batch):
    stop = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await stop.wait()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        http = connect(Http, url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", timeout="200ms")
        with pytest.raises(Retry, match="did not answer in time"):
            await http.deliver(make_batch(1))
        stop.set()


LONG = bytes(range(256)) * 800
MANY = {"answer_size": 1 << 20, "answer_seconds": 20.0}


def whole(body: bytes, *headers: bytes) -> bytes:
    return OK + b"".join(headers) + b"Content-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize(
    ("answer", "asked", "said", "complete"),
    [
        (whole(b"ok"), {}, b"ok", True),
        (whole(b""), {}, b"", True),
        (whole(LONG), {}, LONG[: 64 << 10], False),
        (whole(LONG), MANY, LONG, True),
        (whole(LONG), {"answer_size": len(LONG)}, LONG, True),
        (whole(LONG), {"answer_size": len(LONG) - 1}, LONG[:-1], False),
        (OK + b"Content-Length: 9\r\n\r\nbroken", MANY, b"broken", False),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n6\r\nbroken\r\n", MANY, b"broken", False),
        (whole(gzip.compress(LONG), b"Content-Encoding: gzip\r\n"), MANY, LONG, True),
        (whole(gzip.compress(LONG), b"Content-Encoding: gzip\r\n"), {}, LONG[: 64 << 10], False),
        (whole(gzip.compress(LONG)[:-9], b"Content-Encoding: gzip\r\n"), MANY, None, False),
        (whole(b"?", b"Content-Encoding: br\r\n"), {}, b"", False),
    ],
)
async def test_an_answer_says_whether_its_body_is_all_there(connect, pieces, answer, asked, said, complete):
    """Looked at as well: what `braze_cohorts` reads of Braze's errors, and Heap's deletion, which reads its status."""
    async with answering(answer, pieces=pieces) as (url, _):
        answered = await connect(Http, url=url).post(url, b"x", {}, **asked)
    assert answered.complete is complete
    assert said is None or answered.body == said


async def test_a_body_that_does_not_come_in_time_is_not_complete(connect):
    async with answering(OK + b"Content-Length: 9\r\n\r\nlate", stalls=True) as (url, _):
        http = connect(Http, url=url, timeout="2s")
        for asked in ({"answer_seconds": 0.05}, {"answer_seconds": 100.0}):
            answered = await http.post(url, b"x", {}, **asked)
            assert (answered.body, answered.complete) == (b"late", False)
        within = await run_limited(lambda: http.post(url, b"x", {}, answer_seconds=100.0), 0.5, "a delivery")
        assert not within.complete, "a delivery that was answered does not run out of time for the rest"


async def test_a_connector_that_allows_more_time_gets_all_of_a_slow_answer(connect):
    slowly = Answer(body=b"not so fast!", drip=0.1)
    async with Destination(slowly, slowly) as slow:
        http = connect(Http, url=slow.url, timeout="60s")
        assert not (await http.post(slow.url, b"x", {})).complete
        answered = await http.post(slow.url, b"x", {}, answer_seconds=40.0)
    assert (answered.body, answered.complete) == (b"not so fast!", True)
