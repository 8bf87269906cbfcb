"""The connector type `s3`, against a real server: which objects there are, and what each kind of failure means."""

import asyncio
import gzip
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import ValidationError

pytest.importorskip("obstore", reason="the connector takes the package currents-relay[s3]")
pytest.importorskip("moto", reason="the server of the tests takes moto[s3] and flask")

from obstore.exceptions import GenericError

from relay.api import Batch, Block, Event, Kind, Reject, Retry, Skipped, Unauthorized, User, load_zstd
from relay_plugins.s3 import S3
from relay_plugins.s3.connector import escape
from relay_plugins.s3.refusal import read_error

SEND, OPEN = Kind("braze", "users.messages.email.Send"), Kind("braze", "users.messages.email.Open")
RECEIVED = 1_790_000_000.0
HOUR = "2026-09-21-14"


def event(number: int, kind: Kind = SEND, received: float = RECEIVED) -> Event:
    return Event(b'{"id": "id-%d", "n" : 1e3}' % number, kind, number, received)


@asynccontextmanager
async def refuse(status: int, code: str) -> AsyncIterator[tuple[str, list[web.Request]]]:
    """Run a store that answers each request with an error of S3. Yield its URL, and the requests."""
    requests = []

    async def answer(request: web.Request) -> web.Response:
        requests.append(request)
        await request.read()
        text = f"<Error><Code>{code}</Code><Message>told so</Message></Error>"
        return web.Response(status=status, text=text, content_type="application/xml")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as refusing:
        yield str(refusing.make_url("/")), requests


def batch_of(*events: Event) -> Batch:
    return Batch([Block.of([one]) for one in events])


async def test_every_sample_is_in_an_object_of_its_type_byte_for_byte(make, server, bucket, samples) -> None:
    events = [
        Event(body, Kind("braze", orjson.loads(body)["event_type"]), number, RECEIVED)
        for number, body in enumerate(samples.values())
    ]
    assert await (await make()).deliver(batch_of(*events)) is None
    lines = list[bytes]()
    for key, body in server.list_objects(bucket).items():
        folder, date, name = key.split("/")
        own = gzip.decompress(body).splitlines()
        assert {f"event_type={json.loads(line)['event_type']}" for line in own} == {folder}
        assert date == f"date={HOUR}"
        assert name.startswith("0-")
        assert name.endswith(".ndjson.gz")
        lines += own
    assert sorted(lines) == sorted(body.replace(b"\n", b" ") for body in samples.values())
    assert len(server.list_objects(bucket)) == len({one.type for one in events})


async def test_a_batch_that_comes_again_writes_the_same_objects(make, server, bucket) -> None:
    batch = batch_of(event(1), event(2, OPEN), event(3), event(4, SEND, RECEIVED + 3600))
    connector = await make(compress="none")
    await connector.deliver(batch)
    before = server.list_objects(bucket)
    assert sorted(before.values()) == [
        b'{"id": "id-1", "n" : 1e3}\n{"id": "id-3", "n" : 1e3}\n',
        b'{"id": "id-2", "n" : 1e3}\n',
        b'{"id": "id-4", "n" : 1e3}\n',
    ]
    await connector.deliver(batch)
    await (await make(compress="none")).deliver(batch_of(*batch))
    assert server.list_objects(bucket) == before
    await connector.deliver(batch_of(event(5)))
    assert len(server.list_objects(bucket)) == 4


@pytest.mark.parametrize("type", ["../../etc/passwd", "..", ".", "a/b//c", "ä ö#?%\0\n", "x" * 5000, ""])
async def test_a_type_leads_nowhere_else(make, server, bucket, type: str) -> None:
    connector = await make(path="inside/{type}", compress="none")
    await connector.deliver(batch_of(event(1, Kind("s", type))))
    (key,) = server.list_objects(bucket)
    start, own, name = key.split("/")
    assert (start, own) == ("inside", escape(type))
    assert ".." not in own
    assert name.endswith(".ndjson")


async def test_compression_and_places_are_settings(make, server, bucket) -> None:
    connector = await make(path="/a/{date}/{hour}/{source}/{worker}/", compress="zstd")
    connector.worker = 3
    await connector.deliver(batch_of(event(1)))
    ((key, body),) = server.list_objects(bucket).items()
    assert key.startswith("a/2026-09-21/14/braze/3/3-")
    assert key.endswith(".ndjson.zst")
    assert load_zstd().decompress(body) == b'{"id": "id-1", "n" : 1e3}\n'
    await (await make(path="")).deliver(batch_of(event(1)))
    assert any("/" not in key for key in server.list_objects(bucket))


def test_a_machine_without_credentials_is_named() -> None:
    asked = "Error performing PUT http://169.254.169.254/latest/api/token in 1ms - Server returned non-2xx status code"
    answer = read_error(GenericError(f"Generic S3 error: {asked}: 403 Forbidden: \n\nDebug source:\n..."), "lake")
    assert isinstance(answer, Unauthorized)
    assert str(answer) == "bucket lake: no access_key is set, and this machine has no credentials"


async def test_a_missing_bucket_waits_and_a_server_that_is_away_is_tried_again(make, server, bucket) -> None:
    nowhere = await make(bucket="no-such-bucket")
    with pytest.raises(Unauthorized, match="bucket no-such-bucket: NoSuchBucket: The specified bucket does not exist"):
        await nowhere.deliver(batch_of(event(1)))
    with pytest.raises(Unauthorized, match=r"NoSuchBucket: .*; make the bucket, or check bucket, region and"):
        await nowhere.probe()
    connector = await make()
    await connector.deliver(batch_of(event(1)))
    server.stop()
    try:
        with pytest.raises(
            Retry, match=rf"^bucket {bucket}: Connection refused: PUT http://127\.0\.0\.1:\S+\.ndjson\.gz$"
        ):
            await connector.deliver(batch_of(event(2)))
        with pytest.raises(Retry):
            await connector.probe()
    finally:
        server.start()
    await connector.deliver(batch_of(event(2)))
    said = f"the bucket {bucket} is there and takes the credentials; the right to write is not tested"
    assert await connector.probe() == said
    assert "credentials are not tested" in await (await make(access_key=None, secret_key=None)).probe()
    assert len(server.list_objects(bucket)) == 2


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        (403, "InvalidAccessKeyId", Unauthorized),
        (403, "SignatureDoesNotMatch", Unauthorized),
        (400, "ExpiredToken", Unauthorized),
        (301, "PermanentRedirect", Unauthorized),
        (400, "EntityTooLarge", Reject),
        (400, "RequestTimeout", Retry),
        (503, "SlowDown", Retry),
        (500, "InternalError", Retry),
        (429, "TooManyRequests", Retry),
    ],
)
async def test_an_error_of_s3_means_what_its_code_says(make, status, code, outcome) -> None:
    async with refuse(status, code) as (url, requests):
        connector = await make(endpoint=url)
        with pytest.raises(outcome, match="region and endpoint" if status == 301 else code) as said:
            await connector.deliver(batch_of(event(1)))
    assert len(requests) == 1
    assert "secret-of-s3" not in repr(said.value)


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        (403, "InvalidAccessKeyId", Unauthorized),
        (403, "SignatureDoesNotMatch", Unauthorized),
        (503, "SlowDown", Retry),
        (403, "AccessDenied", None),  # to read, which relay need not
        (404, "NoSuchKey", None),
    ],
)
async def test_a_probe_tells_wrong_credentials_from_no_right_to_read(make, status, code, outcome) -> None:
    async with refuse(status, code) as (url, requests):
        connector = await make(endpoint=url, path="some/where/{type}")
        if outcome:
            with pytest.raises(outcome, match=code):
                await connector.probe()
        else:
            assert "takes the credentials" in await connector.probe()
    assert [(one.method, one.path.split("/", 2)[2]) for one in requests] == [("GET", "some/where/relay-doctor")]


async def test_a_server_that_hangs_can_be_given_up(make) -> None:
    taken = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    async with server:
        connector = await make(endpoint=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            task = group.create_task(connector.deliver(batch_of(event(1))), name="delivery")
            await taken.wait()
            task.cancel()
        slow = await make(endpoint=connector.settings.endpoint, timeout="100ms")
        with pytest.raises(Retry):
            await slow.deliver(batch_of(event(1)))


async def test_users_in_objects_stay_and_the_receipt_says_where(make, bucket) -> None:
    (outcome,) = await (await make(path="currents/{type}")).erase([User("5f")])
    assert outcome == Skipped(f"objects are yours: s3://{bucket}/currents/ may still have the user")


@pytest.mark.parametrize(("format", "library"), [("avro", "fastavro"), ("parquet", "pyarrow")])
def test_a_format_without_its_library_is_a_mistake(monkeypatch, format, library) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    S3.Settings.model_validate({"type": "s3", "bucket": "lake"})
    with pytest.raises(ValidationError) as error:
        S3.Settings.model_validate({"type": "s3", "bucket": "lake", "format": format})
    ((mistake),) = error.value.errors()
    assert mistake["loc"] == ("format",)
    assert f"needs {library}: pip install 'currents-relay[{format}]'" in mistake["msg"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"path": "{event}"}, "{event} is none of {date}"),
        ({"path": "{type!r}"}, "{type} is none of"),
        ({"path": "a/../b"}, "expected a path in the bucket"),
        ({"path": "a//b"}, "expected a path in the bucket"),
        ({"access_key": {"env": "PATH"}}, "belong together"),
        ({"bucket": "x"}, "bucket"),
        ({"compress": "lz4"}, "compress"),
        ({"format": "orc"}, "format"),
    ],
)
def test_settings_say_what_is_wrong(wrong, said) -> None:
    with pytest.raises(ValidationError) as error:
        S3.Settings.model_validate({"type": "s3", "bucket": "lake"} | wrong)
    assert said in str(error.value)
