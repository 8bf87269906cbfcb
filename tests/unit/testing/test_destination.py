import asyncio
import gzip

import aiohttp
import pytest

from relay.testing import Answer, Destination, Reset, make_event


@pytest.fixture
async def http():
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        yield session


async def status_of(http: aiohttp.ClientSession, url: str, body: bytes = b"{}") -> int:
    async with http.post(url, data=body) as answer:
        await answer.read()
        return answer.status


async def test_requests_are_recorded_as_they_came(http):
    body = make_event("a")
    async with Destination() as destination:
        await status_of(http, destination.url + "some/path?key=%22A%22", b'{"events":[' + body + b"]}")
    (request,) = destination.requests
    assert (request.method, request.target) == ("POST", "/some/path?key=%22A%22")
    assert request.headers["content-length"] == str(len(request.body))
    assert destination.bodies() == [body]
    assert destination.events()[0]["event_type"] == "a"


@pytest.mark.parametrize(
    ("body", "bodies"),
    [
        (b'{"events":[{"a":1}, {"b" : 2}]}', [b'{"a":1}', b'{"b" : 2}']),
        (b'{"events":\n[]}', []),
        (b'[{"a":1},\n{"b":2}]', [b'{"a":1}', b'{"b":2}']),
        (b'{"a" : 1}', [b'{"a" : 1}']),
        (b'{"a":1}\n', [b'{"a":1}']),
        (b'{"a":1}\n{"b":2}\n', [b'{"a":1}', b'{"b":2}']),
        (b"", []),
    ],
)
async def test_events_are_found_in_every_form_of_body(http, body, bodies):
    async with Destination() as destination:
        await status_of(http, destination.url, body)
        assert destination.bodies() == bodies


async def test_a_body_without_events_is_named(http):
    async with Destination() as destination:
        await status_of(http, destination.url, b"{broken")
        with pytest.raises(ValueError, match="broken"):
            destination.events()


async def test_a_compressed_body_is_recorded_unpacked(http):
    async with (
        Destination() as destination,
        http.post(destination.url, data=gzip.compress(b'{"a":1}'), headers={"Content-Encoding": "gzip"}),
    ):
        assert destination.bodies() == [b'{"a":1}']


async def test_the_script_is_followed_then_the_switch(http):
    async with Destination(503, Answer(status=429, headers={"Retry-After": "3"})) as destination:
        assert await status_of(http, destination.url) == 503
        async with http.post(destination.url, data=b"{}") as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (429, "3")
        assert await status_of(http, destination.url) == 200
        destination.behaviour = 500
        assert await status_of(http, destination.url) == 500
        assert await status_of(http, destination.url) == 500


async def test_events_of_refused_requests_do_not_count_as_taken(http):
    async with Destination(503) as destination:
        await status_of(http, destination.url, b'[{"a":1}]')
        assert destination.events() == []
        await status_of(http, destination.url, b'[{"a":1}]')
        assert destination.events() == [{"a": 1}]
    assert [request.taken for request in destination.requests] == [False, True]


@pytest.mark.parametrize("after_body", [False, True])
async def test_a_connection_is_reset_before_or_after_the_body(http, after_body):
    async with Destination(Reset(after_body=after_body)) as destination:
        with pytest.raises((aiohttp.ClientError, ConnectionResetError)):
            await status_of(http, destination.url, b"x" * (1 << 19))
        assert bool(destination.requests[0].body) is after_body
        assert destination.requests[0].status is None
        assert await status_of(http, destination.url) == 200


async def test_a_hanging_answer_comes_on_release(http):
    async with Destination(Answer(hang=True)) as destination, asyncio.TaskGroup() as group:
        post = group.create_task(status_of(http, destination.url, b'{"a":1}'), name="post")
        await destination.received(1)
        assert not post.done()
        destination.release()
        assert await post == 200


async def test_a_client_that_gives_up_has_delivered_all_the_same():
    async with Destination(Answer(hang=True)) as destination:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.05)) as impatient:
            with pytest.raises(TimeoutError):
                await status_of(impatient, destination.url, b'{"a":1}')
        assert destination.events() == [{"a": 1}]


async def test_a_delay_holds_back_the_answer():
    patience = aiohttp.ClientTimeout(total=0.05)
    async with Destination(Answer(delay=60)) as destination, aiohttp.ClientSession(timeout=patience) as impatient:
        with pytest.raises(TimeoutError):
            await status_of(impatient, destination.url)


async def test_a_body_drips(http):
    async with Destination(Answer(body=b"slowly", drip=0.001)) as destination, http.post(destination.url) as answer:
        pieces = [piece async for piece, _ in answer.content.iter_chunks()]
    assert b"".join(pieces) == b"slowly"
    assert len(pieces) > 1


async def test_a_body_is_cut_off(http):
    cut = Answer(body=b"never complete", cut=True)
    async with Destination(cut) as destination, http.post(destination.url) as answer:
        assert answer.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()


async def test_waiting_in_vain_says_what_came(http):
    async with Destination() as destination:
        await status_of(http, destination.url, b'[{"a":1}]')
        with pytest.raises(TimeoutError, match="3 events, but 1 came in 1 request"):
            await destination.received(3, timeout=0.01)
        with pytest.raises(TimeoutError):
            await destination.requested(2, timeout=0.01)
        await destination.requested(1)
