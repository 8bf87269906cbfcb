"""`format = "avro"`: the vendor's schemas in real objects, and what becomes of events that no schema holds."""

import csv
import json
from collections import defaultdict
from io import BytesIO
from pathlib import Path

import orjson
import pytest

pytest.importorskip("fastavro", reason="the format takes the package currents-relay[avro]")

import fastavro

from relay.api import DELIVERED, Batch, Block, Event, Kind, Reject, find_storage_fields
from relay_plugins.s3.avro import Avro

FACTS = Path(__file__).parents[5] / "shared" / "facts" / "currents-storage-fields.csv"
OPEN, ABORT = "users.messages.email.Open", "users.messages.inappmessage.Abort"
LOCATION, EVENT = "users.behaviors.Location", "users.behaviors.CustomEvent"
CLICK = "users.messages.email.Click"
RECEIVED = 1_790_000_000.0


def batch_of(*bodies: bytes) -> Batch:
    types = [orjson.loads(body)["event_type"] for body in bodies]
    events = [Event(body, Kind("braze", types[number]), number, RECEIVED) for number, body in enumerate(bodies)]
    return Batch([Block.of([one]) for one in events])


def event(event_type: str = OPEN, **more: object) -> bytes:
    return orjson.dumps({"event_type": event_type, "id": "id-1", "time": 1_790_000_000, "user": {}} | more)


def read(body: bytes):
    reader = fastavro.reader(BytesIO(body))
    return reader, [*reader]


def look_up(data, path):
    for step in path:
        data = data.get(step) if isinstance(data, dict) else None
    return data


@pytest.fixture(scope="module")
def facts():
    if not FACTS.is_file():
        pytest.skip(f"the facts are not here: {FACTS}")
    by_type = defaultdict(list)
    with FACTS.open() as lines:
        for row in csv.DictReader(lines):
            by_type[row["event_type"]].append(row)
    return by_type


async def test_every_sample_is_there_with_the_vendors_fields(make, server, bucket, samples, facts) -> None:
    sent = {orjson.loads(body)["event_type"]: orjson.loads(body) for body in samples.values()}
    assert await (await make(format="avro")).deliver(batch_of(*samples.values())) is None
    beside, seen = set(), set()
    for key, body in server.list_objects(bucket).items():
        event_type = key.split("/")[0].removeprefix("event_type=")
        if not key.endswith(".avro"):
            assert key.endswith(".ndjson.gz")
            beside.add(event_type)
            continue
        reader, (value,) = read(body)
        rows, original = facts[event_type], sent[event_type]
        written = reader.writer_schema
        assert (reader.codec, written["name"]) == ("deflate", f"dataexport.S3.inner.{event_type}")
        for row, field in zip(rows, written["fields"], strict=False):
            avro_type = json.loads(row["avro_type"]) if row["avro_type"].startswith("{") else row["avro_type"]
            expected = avro_type if row["field"] in ("id", "time") else ["null", avro_type]
            assert (field["name"], field["type"]) == (row["field"], expected)
            assert row["field"] in ("id", "time") or field["default"] is None
            path = row["custom_http_path"].removesuffix(" (as JSON text)")
            found = look_up(original, path.split("."))
            got = value[row["field"]]
            if path != row["custom_http_path"]:
                got = json.loads(got)
            assert got == (pytest.approx(found) if isinstance(found, float) else found)
        # what the vendor's storage lacks is behind the vendor's fields
        for field in find_storage_fields(event_type)[len(rows) :]:
            assert value[field.name] == look_up(original, field.path)
        seen.add(event_type)
    assert beside == sent.keys() - facts.keys()
    assert len(beside) == 3
    assert seen == sent.keys() & facts.keys()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (event("users.messages.fax.Send"), "the type users.messages.fax.Send has no storage schema"),
        (event(properties={"new": 1}), "properties.new is not in the storage schema"),
        (event(new={"x": 1}), "new is not in the storage schema"),
        (event(user=["x"]), "user is not in the storage schema"),
        (event(user={"timezone": 5}), "user.timezone is no text"),
        (event(time=2**31), "time is no whole number of 32 bits"),
        (event(time=True), "time is no whole number of 32 bits"),
        (event(time=1.5), "time is no whole number of 32 bits"),
        (event(time=None), "the event has no time"),
        (event(properties={"machine_open": 1}), "properties.machine_open is no text"),
        (event(LOCATION, properties={"latitude": 1e39}), "properties.latitude is no number of 32 bits"),
        (event(EVENT, properties={"custom_properties": "x"}), "properties.custom_properties is no object"),
        (event(CLICK, properties={"suspected_bot_click_reason": [1]}), "is no list of texts"),
        (b'{"id":"1","time":1}', "event_type is another than"),
        (b'{"event_type":"users.messages.email.Open","id":"\\ud800"}', "the event cannot be decoded"),
        (
            event(EVENT, x=0, properties={"custom_properties": {}}).replace(b'"x":0', b'"properties":0'),
            "is there twice",
        ),
    ],
)
def test_what_a_schema_cannot_hold_has_a_reason(body, reason) -> None:
    kind = Kind("braze", OPEN if b"\\ud" in body else orjson.loads(body).get("event_type", OPEN))
    encoded = Avro("none").encode(Batch([Block.of([Event(body, kind, 1, RECEIVED)])]))
    assert [*encoded.misfits] == [0]
    assert reason in encoded.misfits[0]


def test_values_of_every_avro_type_come_back() -> None:
    encoded = Avro("none").encode(batch_of(event(LOCATION, properties={"latitude": -0.5, "longitude": 0})))
    assert [(one["latitude"], one["longitude"]) for one in read(encoded.body)[1]] == [(-0.5, 0.0)]
    encoded = Avro("none").encode(batch_of(event(CLICK, properties={"suspected_bot_click_reason": ["a", "b"]})))
    assert read(encoded.body)[1][0]["suspected_bot_click_reason"] == ["a", "b"]
    encoded = Avro("none").encode(batch_of(event(ABORT, user={"user_id": None})))
    assert not encoded.misfits
    assert read(encoded.body)[1][0]["version"] is None


@pytest.mark.parametrize(
    ("event_type", "name"), [(EVENT, "custom_properties"), ("users.behaviors.Purchase", "purchase_properties")]
)
def test_properties_of_customers_are_text_as_it_came(event_type, name) -> None:
    text = '{"n":123456789012345678901234567890, "p":1.50,"é":[null,true],"nul":"\\u0000","properties":{"x":-0}}'
    body = event(event_type, properties={name: "TEXT"}).replace(b'"TEXT"', text.encode())
    encoded = Avro("none").encode(batch_of(body, event(event_type, properties={name: {}}), event(event_type)))
    assert [one["properties"] for one in read(encoded.body)[1]] == [text, "{}", None]


MADE = {
    "string": "text é",
    "boolean": True,
    "int": -(2**31),
    "long": 2**63 - 1,
    "float": 0.5,
    "json": {"n": 1, "nested": {"list": [None]}},
    "array": ["a", "b"],
}
"""A value of each Avro type."""


def make_full(event_type: str, rows) -> bytes:
    """Make an event with a value in every field: where the facts say, else where other types have the field."""
    made = {"event_type": event_type}
    for row, known in zip(rows, find_storage_fields(event_type), strict=False):
        is_text = row["custom_http_path"].endswith(" (as JSON text)")
        kind = "json" if is_text else "array" if row["avro_type"].startswith("{") else row["avro_type"]
        path = row["custom_http_path"].removesuffix(" (as JSON text)")
        *outer, inner = path.split(".") if path else known.path or ("properties", row["field"])
        place = made
        for step in outer:
            place = place.setdefault(step, {})
        place[inner] = MADE[kind]
    return orjson.dumps(made)


def test_every_schema_holds_a_value_in_every_field(facts) -> None:
    assert len(facts) == 94
    for event_type, rows in facts.items():
        body = make_full(event_type, rows)
        encoded = Avro("none").encode(batch_of(body))
        assert not encoded.misfits, event_type
        reader, (value,) = read(encoded.body)
        schema = reader.writer_schema
        assert schema["name"] == f"{rows[0]['avro_namespace']}.{rows[0]['avro_name']}"
        assert [*value] == [field["name"] for field in schema["fields"]]
        for row, field in zip(rows, schema["fields"], strict=False):
            avro_type = json.loads(row["avro_type"]) if row["avro_type"].startswith("{") else row["avro_type"]
            kind = avro_type if row["field"] in ("id", "time") else ["null", avro_type]
            assert (field["name"], field["type"]) == (row["field"], kind)
            made = MADE["array" if isinstance(avro_type, dict) else avro_type]
            is_text = row["custom_http_path"].endswith(" (as JSON text)")
            assert value[row["field"]] == (orjson.dumps(MADE["json"]).decode() if is_text else made)


MIXED = (event(id="1"), event(id="2", properties={"new": 1}), event("users.x.New", id="3"), event(id="4"))


async def test_unknown_events_are_in_ndjson_objects_beside(make, server, bucket) -> None:
    connector = await make(format="avro", compress="none")
    assert await connector.deliver(batch_of(*MIXED)) is None
    objects = server.list_objects(bucket)
    by_end = {(key.split("/")[0], key.rsplit(".", 1)[1]): body for key, body in objects.items()}
    avro = by_end.pop((f"event_type={OPEN}", "avro"))
    assert [one["id"] for one in read(avro)[1]] == ["1", "4"]
    assert by_end == {
        (f"event_type={OPEN}", "ndjson"): MIXED[1] + b"\n",
        ("event_type=users.x.New", "ndjson"): MIXED[2] + b"\n",
    }
    assert connector.metrics.counts == {"unknown": 2}
    await connector.deliver(batch_of(*MIXED))
    assert server.list_objects(bucket) == objects


async def test_unknown_events_are_parked_alone_if_so_set(make, server, bucket) -> None:
    outcomes = await (await make(format="avro", unknown="park")).deliver(batch_of(*MIXED))
    assert [type(one) for one in outcomes] == [type(DELIVERED), Reject, Reject, type(DELIVERED)]
    assert [one.reason for one in outcomes[1:3]] == [
        "properties.new is not in the storage schema",
        "the type users.x.New has no storage schema",
    ]
    ((key, body),) = server.list_objects(bucket).items()
    assert key.endswith(".avro")
    assert [one["id"] for one in read(body)[1]] == ["1", "4"]


@pytest.mark.parametrize(("compress", "codec"), [("none", "null"), ("gzip", "deflate"), ("zstd", "zstandard")])
async def test_an_object_has_one_type_codec_and_the_same_bytes_again(make, server, bucket, compress, codec) -> None:
    connector = await make(format="avro", compress=compress, path="{date}")
    batch = batch_of(event(id="1"), event(EVENT, id="2"), event(id="3"))
    await connector.deliver(batch)
    before = server.list_objects(bucket)
    assert [key.split(".", 1)[1] for key in before] == ["avro", "avro"]
    assert sorted(tuple(one["id"] for one in read(body)[1]) for body in before.values()) == [("1", "3"), ("2",)]
    assert {read(body)[0].codec for body in before.values()} == {codec}
    await (await make(format="avro", compress=compress, path="{date}")).deliver(Batch([Block.of([*batch])]))
    assert server.list_objects(bucket) == before
