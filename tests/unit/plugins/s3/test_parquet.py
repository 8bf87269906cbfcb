"""`format = "parquet"`: the columns of real objects, as a reader sees them that is not of the library that writes."""

import pytest

pytest.importorskip("pyarrow", reason="the format takes the package currents-relay[parquet]")

import duckdb
import orjson

from relay.api import REDACTED, Batch, Block, Event, Kind, Reject
from relay_plugins.s3.parquet import COLUMNS, Parquet

NEW = Kind("braze", "x.New")
RECEIVED = 1_790_000_000.25
QUERY = (
    "SELECT id, type, epoch_ms(time), epoch_ms(received), source, user_id, external_user_id, device_id, event"
    " FROM read_parquet(?, hive_partitioning = false)"
)


@pytest.fixture
def read(tmp_path):
    """Return the rows of an object."""

    def run(body: bytes):
        file = tmp_path / "object.parquet"
        file.write_bytes(body)
        return duckdb.execute(QUERY, [str(file)]).fetchall()

    yield run
    duckdb.close()


def batch_of(*bodies: bytes) -> Batch:
    return Batch([Block.of([Event(body, NEW, number, RECEIVED)]) for number, body in enumerate(bodies)])


async def test_every_sample_is_a_row_of_an_object_of_its_type(make, server, bucket, samples, read) -> None:
    events = [
        Event(body, Kind("braze", orjson.loads(body)["event_type"]), number, RECEIVED)
        for number, body in enumerate(samples.values())
    ]
    assert await (await make(format="parquet")).deliver(Batch([Block.of(events)])) is None
    rows = []
    for key, body in server.list_objects(bucket).items():
        folder, _, name = key.split("/")
        own = read(body)
        assert {f"event_type={row[1]}" for row in own} == {folder}
        assert name.endswith(".parquet")
        rows += own
    expected = []
    for body in samples.values():
        data = orjson.loads(body)
        ids = [data.get("user", {}).get(name) for name in ("user_id", "external_user_id", "device_id")]
        received = int(RECEIVED * 1000)
        expected.append((data["id"], data["event_type"], data["time"] * 1000, received, "braze", *ids, body.decode()))
    assert sorted(rows, key=str) == sorted(expected, key=str)


def test_a_file_names_its_columns_and_codec(read, tmp_path) -> None:
    file = tmp_path / "object.parquet"
    for compress, codec in (("none", "UNCOMPRESSED"), ("gzip", "GZIP"), ("zstd", "ZSTD")):
        file.write_bytes(Parquet(compress).encode(batch_of(b'{"id":"1"}', b'{"id":"2"}')).body)
        found = duckdb.execute(
            "SELECT path_in_schema, compression, row_group_num_rows FROM parquet_metadata(?)", [str(file)]
        )
        assert found.fetchall() == [(name, codec, 2) for name in COLUMNS]


def test_odd_values_are_null_and_the_event_is_as_it_came(read) -> None:
    bodies = (
        b'{"id": 7, "time": "2026-09-21T14:13:20Z", "user": {"user_id": "%s", "device_id": ""}}' % REDACTED.encode(),
        b'{"id":"2","time":1e300,"user":{"user_id":{}},"n":12345678901234567890123, "t":"\\u0000\xc3\xa9"}',
        b'{"id":"3","user":null}',
    )
    encoded = Parquet("none").encode(batch_of(*bodies))
    assert not encoded.misfits
    assert [(row[0], row[2], row[5:8], row[8]) for row in read(encoded.body)] == [
        ("7", 1_790_000_000_000, (None, None, None), bodies[0].decode()),
        ("2", None, (None, None, None), bodies[1].decode()),
        ("3", None, (None, None, None), bodies[2].decode()),
    ]


async def test_what_has_no_row_goes_the_way_of_unknown_events(make, server, bucket, read) -> None:
    batch = batch_of(b'{"id":"1"}', b'{"n":1e999}', b'{"time":1}', b"5")
    outcomes = await (await make(format="parquet", unknown="park")).deliver(batch)
    assert [one.reason.partition(":")[0] for one in outcomes if isinstance(one, Reject)] == [
        "the event cannot be decoded",
        "the event has no id",
        "the event is no JSON object",
    ]
    ((_, body),) = server.list_objects(bucket).items()
    assert [row[0] for row in read(body)] == ["1"]
    connector = await make(format="parquet", compress="none")
    assert await connector.deliver(batch) is None
    objects = server.list_objects(bucket)
    assert {body for key, body in objects.items() if key.endswith(".ndjson")} == {b'{"n":1e999}\n{"time":1}\n5\n'}
    assert await (await make(format="parquet", compress="none")).deliver(Batch([Block.of([*batch])])) is None
    assert server.list_objects(bucket) == objects
