import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.api import Kind
from relay_plugins.filters import Only, Rename, Set
from tests.unit.plugins.filters.make import make

names = st.sampled_from(["a", "b", "id", 'd"'])
leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=3)
trees = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=9
)
paths = st.lists(names | st.just("*"), min_size=1, max_size=3)


def select(value, allowed):
    """What is left of a value: the naive way. `...` is nothing."""
    if () in allowed:
        return value
    steps = {step for step, *_ in allowed}
    if isinstance(value, dict):
        kept = {
            key: select(
                one, {rest for step, *rest in map(tuple, allowed) for rest in [tuple(rest)] if step in ("*", key)}
            )
            for key, one in value.items()
            if key in steps or "*" in steps
        }
        return {key: one for key, one in kept.items() if one is not ...}
    if isinstance(value, list) and "*" in steps:
        kept = [select(one, {tuple(rest) for step, *rest in allowed if step == "*"}) for one in value]
        return [one for one in kept if one is not ...]
    return ...


@given(st.dictionaries(names, trees, max_size=4), st.lists(paths, min_size=1, max_size=3), st.booleans())
def test_only_leaves_what_the_paths_lead_to(make_event, data, fields, indented):
    data = {"id": "1", "time": 2, "event_type": "x", **data}
    event = make_event(orjson.dumps(data, option=orjson.OPT_INDENT_2 if indented else None))
    changed = make(Only, fields=[".".join(path) for path in fields]).apply(event)
    expected = select(data, {("id",), ("time",), ("event_type",), *map(tuple, fields)})
    assert changed.data == expected
    assert (changed is event) == (expected == data)


@given(
    st.lists(st.tuples(names, trees), max_size=5),
    st.lists(paths, min_size=1, max_size=3),
    st.sampled_from([(",", ":"), (", ", ": "), (" \n,\t", " : ")]),
)
def test_only_leaves_the_last_value_of_a_name_that_comes_twice(make_event, pairs, fields, between):
    comma, colon = between
    written = [f"{orjson.dumps(name).decode()}{colon}{orjson.dumps(value).decode()}" for name, value in pairs]
    event = make_event(f"{{{comma.join(written)}}}".encode())
    changed = make(Only, fields=[".".join(path) for path in fields]).apply(event)
    data = dict(pairs)
    expected = select(data, {("id",), ("time",), ("event_type",), *map(tuple, fields)})
    assert orjson.loads(changed.body) == expected
    assert (changed is event) == (expected == data and len(data) == len(pairs))
    assert len(read_pairs(changed.body)) == len(expected)


def read_pairs(body):
    """The names and values of an object, also of names that come twice."""
    return json.JSONDecoder(object_pairs_hook=list).decode(body.decode())


@pytest.mark.parametrize(
    ("body", "fields", "expected"),
    [
        (b'{"id":"1","p":{"x":1.50,"y":1e999}}', ["p.x"], b'{"id":"1","p":{"x":1.50}}'),
        (b'{"p":{"x":1,"s":2},"p":{"x":3}}', ["p.x"], b'{"p":{"x":3}}'),
        (b'{"id": "1", "p":{"x":1,"s":2},"p":{"x":3}}', ["p.x"], b'{"id":"1","p":{"x":3}}'),
        (b'{"id":"1","p":{"x":1},"p":{"x":3}}', ["*.x"], b'{"id":"1","p":{"x":3}}'),
        (b'{"id":"1","p":{"x":1, "x":2}}', ["p.x"], b'{"id":"1","p":{"x":2}}'),
        (b'{"id":"1","\\u0070":{"x":1},"s":2}', ["p"], b'{"id":"1","p":{"x":1}}'),
        (b'{"id":"1","p":[{"x":1,"s":2}],"s":{}}', ["p.x", "s.x"], b'{"id":"1","s":{}}'),
        (b'{"id":"1","p":"text"}', ["p.x"], b'{"id":"1"}'),
        (b'{"id":"1","p":null}', ["p"], b'{"id":"1","p":null}'),
        (b'{"id":"1","a\\"\\n\\\\":1,"a\\/":2,"s":3}', ['a"\n\\', "a/"], b'{"id":"1","a\\"\\n\\\\":1,"a/":2}'),
    ],
)
def test_only_leaves_values_byte_for_byte(make_event, body, fields, expected):
    assert make(Only, fields=fields).apply(make_event(body)).body == expected


def test_only_keeps_the_id_and_time_of_the_events_own_source(make_event):
    event = make_event(b'{"number":7,"at":8,"id":9,"s":1}', kind=Kind("shop", "order", "number", "at"))
    assert make(Only, fields=["x"]).apply(event).body == b'{"number":7,"at":8}'


@pytest.mark.parametrize(
    ("fields", "data", "expected"),
    [
        ({"a": "b"}, {"a": 1, "c": 2}, {"b": 1, "c": 2}),
        ({"a": "b"}, {"a": None}, {"b": None}),
        ({"a": "b"}, {"a": 1, "b": 2}, {"b": 1}),
        ({"a": "b", "b": "a"}, {"a": 1, "b": 2}, {"b": 1, "a": 2}),
        ({"a.b": "c.d.e"}, {"a": {"b": 1, "x": 2}}, {"a": {"x": 2}, "c": {"d": {"e": 1}}}),
        ({"a.b": "c.d"}, {"a": {"b": 1}, "c": {"e": 2}}, {"a": {}, "c": {"e": 2, "d": 1}}),
        ({"a.b": "c.d"}, {"a": {"b": 1}, "c": None}, {"a": {}, "c": {"d": 1}}),
        ({"a": "c.a", "b.x": "c.x"}, {"a": {"i": [1]}, "b": {"x": 1.5}}, {"b": {}, "c": {"a": {"i": [1]}, "x": 1.5}}),
    ],
)
def test_rename_moves_fields(make_event, fields, data, expected):
    assert make(Rename, fields=fields).apply(make_event(data)).data == expected


@pytest.mark.parametrize(
    "body", [b'{ "n": 1e999 }', b'{ "b": {"a": 1} }', b'{"x": {"y": 1}, "a": 2}', b'{"x": [1], "t": "\\u0061.x"}']
)
def test_rename_hands_on_the_same_event_without_the_field(make_event, body):
    event = make_event(body)
    assert make(Rename, fields={"x.a": "y", "q": "z"}).apply(event) is event


@pytest.mark.parametrize(
    ("settings", "data", "expected"),
    [
        ({"values": {"a": "x", "b": 2, "c": 2.5, "d": True}}, {}, {"a": "x", "b": 2, "c": 2.5, "d": True}),
        ({"values": {"a.b": "x"}}, {"a": {"b": 1, "c": 2}}, {"a": {"b": "x", "c": 2}}),
        ({"values": {"a.b.c": 1}}, {"a": {"b": None}}, {"a": {"b": {"c": 1}}}),
        ({"copies": {"a": "b.c"}}, {"b": {"c": [1, {"d": 2}]}}, {"a": [1, {"d": 2}], "b": {"c": [1, {"d": 2}]}}),
        ({"copies": {"a": "b.c"}}, {"a": 1, "b": {}}, {"a": 1, "b": {}}),
        ({"copies": {"a": "b", "b": "a"}}, {"a": 1, "b": 2}, {"a": 2, "b": 1}),
        ({"copies": {"c": "a", "a.x": "a.y"}}, {"a": {"y": 1}}, {"a": {"y": 1, "x": 1}, "c": {"y": 1}}),
        ({"copies": {"a": "event_type"}}, {}, {"a": "users.messages.email.Open"}),
        ({"copies": {"a": "b"}, "values": {"b": "new"}}, {"b": "old"}, {"a": "old", "b": "new"}),
    ],
)
def test_set_gives_constants_and_the_values_of_others(make_event, settings, data, expected):
    assert make(Set, **settings).apply(make_event(data)).data == expected


@pytest.mark.parametrize("body", [b'{ "a": {"b": "x"}, "c": 1.5 }', b'{"c": 1.5,"a": {"b": "x", "d": 1e999}}'])
def test_set_hands_on_the_same_event_if_it_has_the_values(make_event, body):
    event = make_event(body)
    assert make(Set, values={"a.b": "x"}, copies={"c": "c", "e": "f"}).apply(event) is event


@pytest.mark.parametrize(
    ("step", "body"),
    [
        (make(Set, values={"a.b": 1}), b'{"a":[1]}'),
        (make(Set, values={"a.b": 1}), b'{"a":"x"}'),
        (make(Rename, fields={"x": "a.b"}), b'{"a":1,"x":2}'),
    ],
)
def test_a_field_has_no_place_in_what_is_no_object(make_event, step, body):
    with pytest.raises(ValueError, match=r"a\.b cannot be set: a is no object"):
        step.apply(make_event(body))


@pytest.mark.parametrize("step", [make(Set, values={"a": 1}), make(Rename, fields={"a": "b"})])
def test_other_values_stay_byte_for_byte(make_event, step):
    rest = b'"n":123456789012345678901234567890,"f":1.50E+2,"x":1e999,"t":"\\u00e9","l":[1, 2]'
    changed = step.apply(make_event(b'{"a":0,' + rest + b"}"))
    assert changed.body.replace(b'"a":1,', b"").replace(b',"b":0', b"") == b"{" + rest + b"}"
