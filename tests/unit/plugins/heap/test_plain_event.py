"""Events that Heap's API gets without a look at each value: they come out as all others do."""

import json
from collections.abc import Iterator
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.api import Event, Kind, Reject
from relay.sandbox.shapes import list_types, make_event
from relay_plugins.heap.plain_event import read_plain_event
from relay_plugins.heap.translate import make_entry

KIND = Kind("braze", "users.messages.email.Send")
TEXT = st.text(st.characters(), max_size=8)
VALUES = st.one_of(
    TEXT,
    st.just("x" * 1023),
    st.just("ß" * 1024),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from([None, [1, True], {"a": False}, 0, 1, 1.0, -0.0, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1]),
)
OBJECTS = st.dictionaries(TEXT | st.sampled_from(["id", "ID_", "name", "n" * 1024]), VALUES, max_size=5)


def make(body: bytes, kind: Kind = KIND) -> Event:
    return Event(body, kind, 0, 0.0)


def body_with(values: bytes, time: bytes = b"1790000000", more: bytes = b"") -> bytes:
    return b'{"event_type":"a.b","id":"1","time":%b,"user":{"user_id":"5f"},"properties":{%b}%b}' % (time, values, more)


def sample_events() -> Iterator[Event]:
    rng = Random(1)
    for name in list_types():
        for _ in range(20):
            yield make(orjson.dumps(make_event(name, rng, 1_790_000_000)), Kind("braze", name))


def comes_out_the_same(event: Event) -> bool:
    """Return whether the event is plain; compare the ways if it is. `repr` tells 1, 1.0, -0.0 and True apart."""
    plain = read_plain_event(event)
    if plain is None:
        return False
    assert (plain.id, plain.time) == (event.id, event.time)
    assert repr(plain.user | plain.properties) == repr({**event.user, **event.properties})
    for prefix in ("", "braze-"):
        expected = make_entry(event, "anna", "Sent", prefix)
        for _ in range(2):  # names are known the second time
            found = make_entry(read_plain_event(event) or event, "anna", "Sent", prefix)
            assert {name: repr(value) for name, value in found.pop("properties").items()} == {
                name: repr(value) for name, value in expected["properties"].items()
            }
            assert found == {name: value for name, value in expected.items() if name != "properties"}
    return True


def test_samples_come_out_the_same_and_most_are_plain() -> None:
    plain = [comes_out_the_same(event) for event in sample_events()]
    assert sum(plain) > 0.8 * len(plain)


@given(OBJECTS, OBJECTS, st.integers(-(2**40), 2**40) | VALUES)
@example({"user_id": "5f"}, {"user_id": "other", "a": True, "b": 1}, 1_790_000_000)
@example({"id": "5f"}, {"a": "x", "id_": 2}, 10**11 - 1)
def test_every_plain_event_comes_out_the_same(user: dict[str, Any], properties: dict[str, Any], time: Any) -> None:
    data = {"event_type": "a.b", "id": "1", "time": time, "user": user, "properties": properties}
    comes_out_the_same(make(json.dumps(data).encode()))
    comes_out_the_same(make(json.dumps(data, ensure_ascii=False).encode(errors="surrogatepass")))


@pytest.mark.parametrize(
    "values", [b"", b'"a":"x","a":"y"', b'"\\u0061":1', b' "a" : 1E5 ', b'"a":-0', b'"a":1e-400', b'"a":"\\u0000\x7f"']
)
def test_odd_forms_of_plain_values_are_plain(values: bytes) -> None:
    assert comes_out_the_same(make(body_with(values)))


@pytest.mark.parametrize(
    "body",
    [
        body_with(b'"a":null'),
        body_with(b'"a":{}'),
        body_with(b'"a":[1]'),
        body_with(b'"a":"%b"' % (b"x" * 1024)),
        body_with(b'"a":9223372036854775808'),
        body_with(b'"a":-9223372036854775809'),
        body_with(b"", time=b"100000000000"),
        body_with(b"", time=b"-1"),
        body_with(b"", time=b"1.5"),
        body_with(b"", time=b"true"),
        body_with(b"", time=b'"2026-09-21T14:13:21Z"'),
        body_with(b"", more=b',"a":1'),
        b'{"event_type":"a.b","id":1,"time":1,"user":{},"properties":{}}',
        b'{"event_type":"a.b","id":"1","time":1,"user":{}}',
    ],
)
def test_other_events_are_read_in_full(body: bytes) -> None:
    assert read_plain_event(make(body)) is None
    assert make_entry(make(body), "anna", "Sent", "")


@pytest.mark.parametrize(
    "body",
    [
        body_with(b'"a":1e400'),
        body_with(b'"a":"\\ud800"'),
        body_with(b'"a":"\xed\xa0\x80"'),
        body_with(b'"\xff":1'),
        body_with(b'"a":"\x01"'),
        body_with(b'"a":"\t"'),
        body_with(b'"a":01'),
        body_with(b'"a":NaN'),
        body_with(b'"a":1,'),
        body_with(b"") + b"x",
        b"\xef\xbb\xbf" + body_with(b""),
        body_with(b"", more=b',"a":"\\ud800"'),
    ],
)
def test_an_event_that_cannot_be_read_is_not_plain(body: bytes) -> None:
    assert read_plain_event(make(body)) is None
    with pytest.raises(Reject):
        make_entry(make(body), "anna", "Sent", "")


def test_an_event_with_its_id_or_time_elsewhere_is_read_in_full() -> None:
    body = body_with(b"", more=b',"number":"7","at":"2"')
    for kind in (Kind("shop", "a.b", id_field="number"), Kind("shop", "a.b", time_field="at")):
        assert read_plain_event(make(body_with(b""), kind)) is None
    assert make_entry(make(body, Kind("shop", "a.b", id_field="number")), "anna", "Sent", "")["idempotency_key"] == "7"
