from contextlib import suppress

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.api import Malformed, Request, SourceSettings
from relay_plugins.currents import Currents
from tests.deep import LEVELS, TOO_MANY_LEVELS, refused


def currents(**settings):
    return Currents("braze", SourceSettings(type="currents", path="/currents", **settings))


def taken(decoded):
    return [(kind.type, bytes(body)) for kind, body in zip(decoded.kinds, decoded.bodies, strict=True)]


GOOD = b'{ "event_type" : "users.New", "id":"1", "later": {"n": 1e999, "\xc3\xa9":[18446744073709551617]} }'


@pytest.mark.promise(4)
def test_real_events_come_out_byte_for_byte_in_one_batch_and_alone(samples):
    source, events = currents(), [body.strip() for body in samples.values()]
    together = source.decode(Request(b'{"events": [' + b" ,\n".join(events) + b"]}"))
    assert [bytes(body) for body in together.bodies] == events
    assert [kind.type for kind in together.kinds] == [name.removesuffix(".json") for name in samples]
    assert not together.unreadable
    for body, alone in zip(events, samples.values(), strict=True):
        assert [bytes(found) for found in source.decode(Request(alone)).bodies] == [body]


@pytest.mark.promise(5)
@pytest.mark.parametrize("probe", [b"", b" \n", b'{"events":[]}', b'{ "events" : [ ] }\n'])
def test_credential_probes_bring_nothing(probe):
    assert taken(currents().decode(Request(probe))) == []


@pytest.mark.promise(4)
def test_unknown_types_fields_and_odd_numbers_pass_as_they_came():
    assert taken(currents().decode(Request(b'{"events":[' + GOOD + b"]}"))) == [("users.New", GOOD)]
    assert taken(currents().decode(Request(GOOD))) == [("users.New", GOOD)]


def test_one_kind_object_per_type():
    kinds = currents().decode(Request(b'{"events":[' + b",".join([GOOD] * 3) + b"]}")).kinds
    assert kinds[0] is kinds[1] is kinds[2]
    assert (kinds[0].source, kinds[0].id_field, kinds[0].time_field) == ("braze", "id", "time")


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (b"7", "Expected `object`, got `int`"),
        (b"null", "got `null`"),
        (b'{"id":"1"}', "`event_type`"),
        (b'{"event_type":"a"}', "`id`"),
        (b'{"event_type":"a","id":1}', "$.id"),
        (b'{"event_type":"","id":"1"}', "$.event_type"),
        (b'{"event_type":"a","id":"' + b"x" * 257 + b'"}', "length <= 256"),
    ],
)
def test_a_bad_entry_is_unreadable_and_the_rest_goes_on(entry, why):
    decoded = currents().decode(Request(b'{"events":[' + GOOD + b"," + entry + b"," + GOOD + b"]}"))
    assert taken(decoded) == [("users.New", GOOD)] * 2
    (unreadable,) = decoded.unreadable
    assert unreadable.body == entry
    assert "entry 2" in unreadable.reason
    assert why in unreadable.reason


DEEP = b'{"event_type":"a","id":"1","x":' + b'{"a":' * LEVELS + b"1" + b"}" * LEVELS + b"}"


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        pytest.param(DEEP, "nested too deep", marks=refused),
        (b'{"event_type":"a","id":"1","x":"\xff"}', "not UTF-8: invalid start byte at byte 32"),
        (b'{"event_type":"a","id":"1","x":NaN}', "invalid character"),
        (b'{"event_type":"a","id":"1","x":"}]\t"}', "invalid character"),
        (b'{"event_type":"a","id":"\\ud83d"}', "unpaired surrogate"),
        (b'{"event_type":"\\udc00","id":"1"}', "unpaired surrogate"),
        (b"nonsense", "JSON"),
    ],
)
@pytest.mark.parametrize("envelope", [b'{"events":[%s]}', b'{"a":[{}],"events" : [ %s ] , "b":"]"}'])
def test_what_the_decoder_refuses_in_one_entry_costs_that_entry(entry, why, envelope):
    """Looked at as well: `json` and `heap_segments` in their tests, erasures and `relay trace` in tests/unit."""
    for before, behind in ((1, 1), (0, 2), (2, 0)):
        decoded = currents().decode(Request(envelope % b" , ".join([GOOD] * before + [entry] + [GOOD] * behind)))
        assert taken(decoded) == [("users.New", GOOD)] * 2
        (unreadable,) = decoded.unreadable
        assert unreadable.body == entry
        assert unreadable.reason.startswith(f"entry {before + 1} is no Currents event: ")
        assert why in unreadable.reason
    assert currents().decode(Request(envelope % entry)).unreadable[0].body == entry


CUT = rb'{"id":"c","event_type":"a","x":["\ud83d","\ud83d\ude00 \\ud83d","\uDE00\uD83D"]}'


@pytest.mark.parametrize("body", [b'{"events":[%s,%s]}', b'{"events":[%s]}', b"%s"])
def test_unpaired_surrogates_pass_as_they_came(body):
    body = body % ((CUT, GOOD) if body.count(b"%s") == 2 else CUT)
    decoded = currents(dedupe="1h").decode(Request(body))
    assert taken(decoded)[0] == ("a", CUT)
    assert decoded.ids[0] == "c"
    assert not decoded.unreadable


@pytest.mark.parametrize("entry", [b"{}", b"0", b"[]", b'{"a":"' + b"x" * 300 + b'"}'])
def test_a_flood_of_what_is_no_event_is_refused_as_a_whole(entry):
    for size in (3_000, 300_000):
        with pytest.raises(Malformed, match="more than 1000 entries are unreadable; entry 2 is no"):
            currents().decode(Request(b'{"events":[' + b",".join([GOOD] + [entry] * size)[: -len(entry)] + b"0]}"))


def test_events_that_are_small_and_many_are_all_taken():
    event = b'{"id":"1","event_type":"a"}'
    decoded = currents().decode(Request(b'{"events":[' + b",".join([event] * 20_000 + [b"7"]) + b"]}"))
    assert taken(decoded) == [("a", event)] * 20_000
    assert [one.reason.split(":")[0] for one in decoded.unreadable] == ["entry 20001 is no Currents event"]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"[" + GOOD + b"]", "got `array`"),
        (b'"x"', "got `str`"),
        (b"{}", "neither"),
        (b'{"events":{}}', "$.events"),
        (b'{"events":null}', "$.events"),
        (b'{"event_type":"a"}', "`id`"),
        (b'{"events":[}', "byte 11"),
        (b'{"events":[]} {}', "not JSON"),
        (b'{"events":[' + GOOD, "not JSON"),
        (b'{"events":[{"event_type":"a","id":"1"}', "byte 38"),
        (b'{"events":[' + b"[" * TOO_MANY_LEVELS + b"]" * TOO_MANY_LEVELS + b"]}", "nested too deep"),
    ],
)
def test_a_body_of_another_shape_is_malformed_and_says_why(body, why):
    with pytest.raises(Malformed, match=why.replace("$", r"\$")):
        currents().decode(Request(body))


def test_ids_are_told_of_the_events_alone_and_only_to_whom_wants_them():
    body = b'{"events":[' + GOOD + b',7,{"event_type":"a","id":"2"}]}'
    assert currents(dedupe="1h").decode(Request(body)).ids == ["1", "2"]
    assert currents(dedupe="1h").decode(Request(GOOD)).ids == ["1"]
    assert currents(dedupe="1h").decode(Request(b"")).ids == []
    assert currents().decode(Request(body)).ids is currents().decode(Request(GOOD)).ids is None


names = st.text(min_size=1, max_size=30)
events = st.builds(
    lambda name, number, rest: orjson.dumps(rest | {"event_type": name, "id": number}),
    names,
    names,
    st.dictionaries(st.text(), st.floats(allow_nan=False) | st.text() | st.lists(st.booleans()), max_size=4),
)


@given(st.lists(events, max_size=6))
def test_what_came_goes_on(bodies):
    decoded = currents(dedupe="1h").decode(Request(b'{"events":[' + b",".join(bodies) + b"]}"))
    assert [bytes(body) for body in decoded.bodies] == bodies
    assert decoded.ids == [orjson.loads(body)["id"] for body in bodies]
    assert [kind.type for kind in decoded.kinds] == [orjson.loads(body)["event_type"] for body in bodies]


@given(
    st.binary()
    | st.text().map(str.encode)
    | st.lists(st.binary()).map(lambda junk: b'{"events":[%b]}' % b",".join(junk))
)
def test_junk_is_malformed_at_worst(junk):
    with suppress(Malformed):
        decoded = currents().decode(Request(junk))
        assert len(decoded.kinds) == len(decoded.bodies)
