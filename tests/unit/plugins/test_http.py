import asyncio
import base64
import gzip
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import aiohttp
import aioresponses
import orjson
import pytest
from aiohttp import web
from pydantic import ValidationError
from standardwebhooks.webhooks import Webhook

from relay.api import DELIVERED, Reject, Retry, Unauthorized
from relay_plugins.heap import Heap
from relay_plugins.http import Http
from tests import shims

KEY = "whsec_" + base64.b64encode(b"0123456789abcdef").decode()


@pytest.fixture
def secret(monkeypatch):
    def make(value):
        monkeypatch.setenv("RELAY_TEST_SECRET", value)
        return {"env": "RELAY_TEST_SECRET"}

    return make


@pytest.fixture(params=["http", "heap"])
def connector(request, connect, peer):
    """What both connectors promise: one of each, on its way to the peer."""

    def make(**settings):
        url = settings.pop("url", peer.url)
        return (
            connect(Http, url=url, **settings) if request.param == "http" else connect(Heap, endpoint=url, **settings)
        )

    return make


@pytest.mark.promise(4)
async def test_events_arrive_as_the_bytes_they_were(connector, peer, make_batch, make_event):
    odd = b'{ "event_type":"x", "id" : "1", "n": 1e999 }'
    assert await connector().deliver(make_batch(make_event(odd), make_event(b'{"id":2}'))) is None
    assert peer.bodies == [b'{"events":[' + odd + b',{"id":2}]}']
    assert peer.requests[0].method == "POST"
    assert peer.requests[0].content_type == "application/json"
    assert "Authorization" not in peer.requests[0].headers


async def test_the_token_is_sent_and_the_urls_query_kept(connector, peer, make_batch, secret):
    await connector(token=secret("s3cret"), url=peer.url + "?group=a").deliver(make_batch(1))
    assert peer.requests[0].headers["Authorization"] == "Bearer s3cret"
    assert peer.requests[0].query_string == "group=a"


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(400, Reject), (413, Reject), (401, Unauthorized), (404, Unauthorized), (429, Retry), (503, Retry), (600, Retry)],
)
async def test_the_status_decides(connector, peer, make_batch, status, outcome):
    peer.answers(status, text="because of this")
    with pytest.raises(outcome, match=f"HTTP {status}: because of this") as raised:
        await connector().deliver(make_batch(1))
    assert (raised.value.status, raised.value.answer) == (status, "because of this")


async def test_413_for_a_large_body_is_a_reject(connector, peer, make_batch, make_event):
    peer.answers(413)
    with pytest.raises(Reject):
        await connector().deliver(make_batch(make_event({"id": "1", "x": "y" * 5_000_000})))


async def test_retry_after_is_honoured_in_both_forms(connector, peer, make_batch):
    peer.answers(429, headers={"Retry-After": "7"})
    with pytest.raises(Retry) as seconds:
        await connector().deliver(make_batch(1))
    assert seconds.value.after == 7
    peer.answers(503, headers={"Retry-After": format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)})
    with pytest.raises(Retry) as date:
        await connector().deliver(make_batch(1))
    assert 3000 < date.value.after <= 3600


async def test_a_redirect_is_not_followed(connector, peer, make_batch):
    peer.answers(307, headers={"Location": "/elsewhere"})
    with pytest.raises(Unauthorized, match="307"):
        await connector().deliver(make_batch(1))
    assert len(peer.requests) == 1


async def test_a_reset_connection_is_tried_again(connector, peer, make_batch):
    async def reset(request):
        request.transport.abort()
        return web.Response()

    peer.answer = reset
    with pytest.raises(Retry, match=r"127\.0\.0\.1:\d+ closed the connection without an answer"):
        await connector(url=peer.url + "?key=hidden").deliver(make_batch(1))


async def test_a_refused_connection_is_tried_again_and_hides_the_query(connector, make_batch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Retry) as refused:
        await connector(url=f"http://127.0.0.1:{port}/x?key=hidden").deliver(make_batch(1))
    assert refused.value.reason == f"127.0.0.1:{port}: Connection refused"
    assert "hidden" not in refused.value.reason


async def test_a_host_that_does_not_exist_and_one_without_tls_are_told(connector, peer, make_batch):
    with pytest.raises(Retry, match=r"nowhere\.invalid: there is no such host"):
        await connector(url="http://nowhere.invalid/").deliver(make_batch(1))
    with pytest.raises(Retry, match=r"127\.0\.0\.1:\d+: TLS: "):
        await connector(url=peer.url.replace("http:", "https:")).deliver(make_batch(1))


async def test_no_answer_in_time_is_tried_again(connector, peer, make_batch):
    never = asyncio.Event()

    async def wait(request):
        await never.wait()
        return web.Response()

    peer.answer = wait
    with pytest.raises(Retry, match="did not answer in time"):
        await connector(timeout="100ms").deliver(make_batch(1))
    never.set()


async def test_a_good_answer_that_never_ends_is_still_good(connector, peer, make_batch):
    async def drip(request):
        answer = web.StreamResponse(status=200)
        await answer.prepare(request)
        while True:
            await answer.write(b"x" * 10_000)

    peer.answer = drip
    assert await connector().deliver(make_batch(1)) is None


async def test_a_good_answer_that_breaks_off_or_stalls_is_still_good(connector, peer, make_batch, monkeypatch):
    monkeypatch.setattr("relay.api.transport.http.ANSWER_SECONDS", 0.01)
    stop = asyncio.Event()

    async def stall(request):
        answer = web.StreamResponse(status=200, headers={"Content-Length": "100"})
        await answer.prepare(request)
        await answer.write(b"x")
        if len(peer.requests) == 1:
            await stop.wait()
        request.transport.abort()
        return answer

    peer.answer = stall
    sending = connector()
    assert await sending.deliver(make_batch(1)) is None
    assert await sending.deliver(make_batch(2)) is None
    stop.set()


async def test_connections_are_kept(connector, peer, make_batch):
    peer.answers(200, text="fine " * 5000)
    sending = connector()
    for number in range(3):
        await sending.deliver(make_batch(number))
    assert len({request.transport.get_extra_info("peername") for request in peer.requests if request.transport}) == 1


async def test_heap_gets_what_braze_would_send(connect, peer, make_batch):
    heap = connect(Heap, endpoint=peer.url, batch={"age": "1s"})
    await heap.deliver(make_batch(1))
    assert peer.requests[0].headers["Braze-Currents-Version"] == "1"
    assert heap.settings.batch.events == 100


@pytest.mark.parametrize(
    ("form", "expected", "content_type"),
    [
        ("array", b'[{"id":1},{ "id":\n2}]', "application/json"),
        ("ndjson", b'{"id":1}\n{ "id": 2}\n', "application/x-ndjson"),
    ],
)
async def test_forms_of_the_body(connect, peer, make_batch, make_event, form, expected, content_type):
    http = connect(Http, url=peer.url, body=form, method="PUT")
    await http.deliver(make_batch(make_event(b'{"id":1}'), make_event(b'{ "id":\n2}')))
    assert peer.bodies == [expected]
    assert peer.requests[0].content_type == content_type
    assert peer.requests[0].method == "PUT"


async def test_headers_of_the_settings_win_and_may_be_secret(connect, peer, make_batch, secret):
    await connect(Http, url=peer.url, headers={"X-Key": secret("s3cret"), "Content-Type": "text/json"}).deliver(
        make_batch(1)
    )
    assert peer.requests[0].headers["X-Key"] == "s3cret"
    assert peer.requests[0].headers.getall("Content-Type") == ["text/json"]


@pytest.mark.parametrize("size", [10, 1 << 20])
async def test_gzip(connect, peer, make_batch, make_event, size):
    body = orjson.dumps({"id": "1", "x": "y" * size})
    await connect(Http, url=peer.url, gzip=True).deliver(make_batch(make_event(body)))
    assert peer.requests[0].headers["Content-Encoding"] == "gzip"
    assert int(peer.requests[0].headers["Content-Length"]) < len(body) + 40
    assert peer.bodies == [b'{"events":[' + body + b"]}"]  # the server has unpacked it


@pytest.mark.parametrize("form", ["events", "single"])
@pytest.mark.parametrize("key", [KEY, KEY.rstrip("="), KEY.removeprefix("whsec_")])
async def test_standard_webhooks_verifies_the_signature(connect, peer, make_batch, secret, form, key):
    await connect(Http, url=peer.url, body=form, gzip=True, signing_secret=secret(key)).deliver(make_batch(1))
    headers = peer.requests[0].headers
    Webhook(KEY).verify(peer.bodies[0], dict(headers))
    assert headers["webhook-id"] == headers["Idempotency-Key"]


async def test_the_idempotency_key_is_the_same_when_a_batch_is_sent_again(connect, peer, make_batch):
    http = connect(Http, url=peer.url)
    for numbers in ((1, 2), (1, 2), (1, 3)):
        await http.deliver(make_batch(*numbers))
    first, again, other = [request.headers["Idempotency-Key"] for request in peer.requests]
    assert first == again == make_batch(1, 2).id
    assert first != other


async def test_single_sends_one_request_per_event_with_its_id(connect, peer, make_batch):
    outcomes = await connect(Http, url=peer.url, body="single").deliver(make_batch(1, 2))
    assert outcomes == [DELIVERED, DELIVERED]
    assert [orjson.loads(body)["id"] for body in peer.bodies] == ["id-1", "id-2"]
    assert [request.headers["Idempotency-Key"] for request in peer.requests] == ["id-1", "id-2"]


async def test_single_with_an_id_that_no_header_can_hold(connect, peer, make_batch, make_event):
    bodies = [b'{"id":"a\\r\\nX-Bad: 1"}', b'{"id":"caf\xc3\xa9"}', b'{"id":"1","n":1e999}', b"{}"]
    batch = make_batch(*map(make_event, bodies))
    http = connect(Http, url=peer.url, body="single")
    assert await http.deliver(batch) == [DELIVERED] * 4
    assert peer.bodies == bodies
    keys = [request.headers["Idempotency-Key"] for request in peer.requests]
    assert len(set(keys)) == 4
    assert not any("X-Bad" in request.headers for request in peer.requests)


async def test_single_stops_at_the_first_retry_and_parks_only_what_is_refused(connect, peer, make_batch):
    statuses = iter([200, 400, 503])

    async def answer(request):
        return web.Response(status=next(statuses))

    peer.answer = answer
    outcomes = await connect(Http, url=peer.url, body="single").deliver(make_batch(1, 2, 3, 4))
    assert [type(outcome) for outcome in outcomes] == [type(DELIVERED), Reject, Retry, Retry]
    assert len(peer.bodies) == 3


async def test_single_reports_what_was_delivered_before_the_token_turned_wrong(connect, peer, make_batch):
    statuses = iter([200, 401, 401])

    async def answer(request):
        return web.Response(status=next(statuses))

    peer.answer = answer
    http = connect(Http, url=peer.url, body="single")
    outcomes = await http.deliver(make_batch(1, 2))
    assert [type(outcome) for outcome in outcomes] == [type(DELIVERED), Unauthorized]


async def test_single_reports_what_was_delivered_before_the_time_was_over(connect, peer, make_batch, monkeypatch):
    never = asyncio.Event()

    async def answer(request):
        if len(peer.requests) > 1:
            await never.wait()
        return web.Response()

    peer.answer = answer
    monkeypatch.setattr("relay_plugins.http.SINGLY_SHARE", 0.05)
    outcomes = await connect(Http, url=peer.url, body="single", timeout="10s").deliver(make_batch(1, 2, 3))
    assert [type(outcome) for outcome in outcomes] == [type(DELIVERED), Retry, Retry]
    assert outcomes[1].reason == "not all of the batch could be sent within 5% of `timeout`"
    never.set()


@pytest.mark.parametrize(
    ("settings", "mistake"),
    [
        ({"method": "GET"}, "POST"),
        ({"headers": {"a b": "c"}}, "cannot be the name of a header"),
        ({"headers": {"a": "b\r\nc: d"}}, "line breaks"),
        ({"headers": {"a": {"envv": "X"}}}, "a secret is a reference"),
        ({"headers": {"content-encoding": "gzip"}}, "relay sends it with `gzip = true`"),
        ({"headers": {"authorization": "x"}, "token": {"env": "X"}}, "already set by token"),
        ({"url": "ftp://x"}, "expected a URL"),
    ],
)
def test_mistakes_in_the_settings(settings, mistake):
    with pytest.raises(ValidationError, match=mistake):
        Http.Settings(**{"type": "http", "url": "http://x/", **settings})


FRAMING = ["Content-Length", "Transfer-Encoding", "Connection", "Expect", "Upgrade", "TE", "Trailer", "Keep-Alive"]


@pytest.mark.parametrize("name", FRAMING)
async def test_a_framing_header_is_a_mistake_in_settings_and_a_bug_in_a_plugin(connect, peer, make_batch, name):
    """Looked at as well: Host, which a proxy may need, and Content-Encoding, which a plugin may set for its body."""
    with pytest.raises(ValidationError, match=f"headers: the header {name} cannot be set"):
        Http.Settings(type="http", url="http://x/", headers={name: "5"})
    plugin = connect(Http, url=peer.url, headers={"Host": "inner.example"})
    with pytest.raises(ValueError, match="cannot be set"):
        await plugin.post(peer.url, b"{}", {name.lower(): "5"})
    await plugin.deliver(make_batch(1))
    assert [request.headers["Host"] for request in peer.requests] == ["inner.example"]


@pytest.mark.parametrize("value", ["whsec_not*base64", "whsec_a"])
def test_a_bad_signing_secret_is_refused_and_not_shown(secret, value):
    with pytest.raises(ValidationError, match="does not hold whsec_ and base64") as mistake:
        Http.Settings(type="http", url="http://x/", signing_secret=secret(value))
    assert value not in str(mistake.value)


async def test_the_request_has_no_more_than_it_needs(connect, make_batch):
    http = connect(Http, url="https://hook.example/in?key=1", gzip=True)
    with aioresponses.aioresponses() as mocked:
        mocked.post("https://hook.example/in?key=1", status=204)
        await http.deliver(make_batch(1))
    ((call,),) = mocked.requests.values()
    expected = {"User-Agent", "Accept-Encoding", "content-type", "content-encoding", "idempotency-key"}
    assert set(call.kwargs["headers"]) == expected
    assert gzip.decompress(call.kwargs["data"]) == b'{"events":[' + make_batch(1).joined() + b"]}"
    assert call.kwargs["allow_redirects"] is False


async def test_an_address_that_does_not_resolve_is_tried_again(connect, make_batch):
    http = connect(Http, url="https://hook.example/")
    with aioresponses.aioresponses() as mocked:
        mocked.post("https://hook.example/", exception=socket.gaierror(-2, "Name or service not known"))
        with pytest.raises(Retry, match=r"hook\.example: there is no such host: Name or service not known"):
            await http.deliver(make_batch(1))


@pytest.mark.skipif(not shims.NEEDED, reason="aiohttp no longer asks for it")
async def test_aioresponses_still_needs_the_shim(connect, make_batch, monkeypatch):
    monkeypatch.setattr("aioresponses.core.ClientResponse", aiohttp.ClientResponse)
    http = connect(Http, url="https://hook.example/")
    with aioresponses.aioresponses() as mocked:
        mocked.post("https://hook.example/")
        with pytest.raises(TypeError, match="stream_writer"):
            await http.deliver(make_batch(1))


@pytest.mark.parametrize("connector", [Heap, Http])
async def test_the_reason_has_what_the_destination_said_even_if_it_comes_late(connector, connect, peer, make_batch):
    async def late(request):
        answer = web.StreamResponse(status=400, headers={"Content-Length": "13"})
        await answer.prepare(request)
        await asyncio.sleep(0.02)
        await answer.write(b"because I say")
        return answer

    peer.answer = late
    address = {"endpoint": peer.url} if connector is Heap else {"url": peer.url}
    with pytest.raises(Reject, match=r"^HTTP 400: because I say$"):
        await connect(connector, **address).deliver(make_batch(1))


async def test_the_reason_says_where_a_redirect_leads_but_not_its_query(connect, peer, make_batch):
    async def moved(request):
        return web.Response(status=308, headers={"Location": "https://elsewhere.example/in?key=hush"})

    peer.answer = moved
    with pytest.raises(Unauthorized, match=r"^HTTP 308 to https://elsewhere\.example/in$"):
        await connect(Http, url=peer.url).deliver(make_batch(1))


@pytest.mark.parametrize(
    ("status", "meaning", "outcome"),
    [
        (409, "retry", Retry),
        (500, "reject", Reject),
        (422, "pause", Unauthorized),
        (404, "deliver", None),
        (200, "retry", Retry),
    ],
)
async def test_what_a_status_means_can_be_set(connect, peer, make_batch, status, meaning, outcome):
    async def answer(request):
        return web.Response(status=status)

    peer.answer = answer
    http = connect(Http, url=peer.url, answers={str(status): meaning})
    if outcome is None:
        assert await http.deliver(make_batch(1)) is None
    else:
        with pytest.raises(outcome, match=str(status)):
            await http.deliver(make_batch(1))


def test_only_statuses_and_known_meanings_can_be_set(connect):
    for answers in ({"99": "retry"}, {"teapot": "retry"}, {"418": "ignore"}):
        with pytest.raises(ValueError, match="answers"):
            connect(Http, url="http://x/", answers=answers)
