from hashlib import sha256

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_plugins.filters import Redact
from tests.unit.plugins.filters.make import make


@pytest.fixture
def redacted(make_event):
    def run(data, fields, **settings):
        return make(Redact, fields=fields, **settings).apply(make_event(data)).data

    return run


@pytest.mark.parametrize(
    ("field", "data", "expected"),
    [
        ("a", {"a": 1, "b": 2}, {"b": 2}),
        ("a.b", {"a": {"b": 1, "c": 2}}, {"a": {"c": 2}}),
        ("a.*", {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {}, "d": 3}),
        ("*.b", {"a": {"b": 1}, "c": {"b": 2, "d": 3}, "e": 4}, {"a": {}, "c": {"d": 3}, "e": 4}),
        ("a.*.b", {"a": [{"b": 1}, {"c": 2}, 3, [4]]}, {"a": [{}, {"c": 2}, 3, [4]]}),
        ("a.*", {"a": [1, {"b": 2}]}, {"a": []}),
        ("*", {"a": 1}, {}),
        ("käse", {"käse": 1}, {}),
        ("a/b", {"a/b": 1}, {}),
        ('a"b', {'a"b': 1}, {}),
        ("a.0", {"a": [1]}, {"a": [1]}),
    ],
)
def test_redact_removes_what_the_path_leads_to(redacted, field, data, expected):
    assert redacted(data, [field]) == expected


def test_redact_masks_and_hashes(redacted, monkeypatch):
    monkeypatch.setenv("RELAY_TEST_SALT", "pepper")
    data = {"p": {"e": "a@b.c", "n": [1, {"x": None}]}, "q": 1}
    assert redacted(data, ["p.*"], action="mask") == {"p": {"e": "[REDACTED]", "n": "[REDACTED]"}, "q": 1}
    assert redacted(data, ["p.e"], action="mask", mask="-")["p"]["e"] == "-"
    assert redacted(data, ["p.e"], action="hash")["p"]["e"] == sha256(b"a@b.c").hexdigest()
    salted = redacted(data, ["p.e", "p.n"], action="hash", salt={"env": "RELAY_TEST_SALT"})
    assert salted["p"]["e"] == sha256(b"peppera@b.c").hexdigest()
    assert salted["p"]["n"] == sha256(b'pepper[1,{"x":null}]').hexdigest()


@pytest.mark.parametrize("body", [b'{"em\\u0061il": "x"}', b'{"\\u0065mail" :"x"}', b'{ "email":"x"}'])
def test_redact_finds_names_however_they_are_spelled(redacted, body):
    assert redacted(body, ["email"]) == {}


@pytest.mark.parametrize("body", [b'{"a\\/b":1}', b'{"a/b":1}', b'{"a\\u002fb":1}'])
def test_redact_finds_names_that_json_may_escape(redacted, body):
    assert redacted(body, ["a/b"]) == {}


@pytest.mark.parametrize(
    "body",
    [b'{ "n": 1e999 }', b'{ "n": 1e999, "m": {"email": 1} }', b'{ "x": {"email": 1} }', b'{ "x": "\\u0065mail" }'],
)
def test_redact_hands_on_the_same_event_if_there_is_nothing_to_do(make_event, body):
    event = make_event(body)
    assert make(Redact, fields=["email", "user.email"]).apply(event) is event


@pytest.mark.parametrize("first", [b'{"email":"x"}', b'{"other":"x"}'])
def test_redact_takes_an_event_alike_whatever_came_before(make_event, first):
    step, event = make(Redact, fields=["email"]), make_event(b'{"n":1e}')
    step.apply(make_event(first))
    assert step.apply(event) is event
    assert step.apply(make_event(b'{"email":1}')).body == b"{}"


def test_redact_leaves_the_shared_content_alone(make_event):
    event = make_event({"a": {"b": [{"c": 1}]}, "id": "1"})
    seen = event.data
    changed = make(Redact, fields=["a.b.*.c"]).apply(event)
    assert seen == event.data == {"a": {"b": [{"c": 1}]}, "id": "1"}
    assert (changed.data, changed.kind, changed.offset) == ({"a": {"b": [{}]}, "id": "1"}, event.kind, event.offset)


def test_redact_of_an_event_that_cannot_be_decoded_lets_nothing_through(make_event):
    with pytest.raises(ValueError, match="malformed"):
        make(Redact, fields=["email"]).apply(make_event(b'{"email":"x","n":1e}'))


def test_redact_leaves_other_values_byte_for_byte(make_event):
    rest = b'"n":123456789012345678901234567890,"f":1.50E+2,"x":1e999,"t":"\\u00e9","l":[1, 2],"d":{"a":1,"a":2}'
    changed = make(Redact, fields=["email"]).apply(make_event(b'{"email":"x",' + rest + b"}"))
    assert changed.body == b"{" + rest + b"}"


@pytest.mark.parametrize(
    ("body", "field", "masked"),
    [
        ('{"p":{"e":1,"e":2,"x":1.50}}', "p.e", '{"p":{"e":"-","e":"-","x":1.50}}'),
        ('{"p":{"e":1},"p":{"x":1.50}}', "p.e", '{"p":{"e":"-"},"p":{"x":1.50}}'),
        ('{"p":{"e":1},"p":null}', "p.e", '{"p":{"e":"-"},"p":null}'),
        ('{"p":{"e":1,"\\u0065":2,"x":1,"x":2}}', "p.e", '{"p":{"e":"-","e":"-","x":1,"x":2}}'),
        ('{"p":{"e":1,"e":2},"p":3}', "*.e", '{"p":{"e":"-","e":"-"},"p":3}'),
        ('{"p":[{"e":1,"e":2}]}', "p.*.*", '{"p":[{"e":"-","e":"-"}]}'),
        ('{"a/b":1,"a\\/b":2}', "a/b", '{"a/b":"-","a/b":"-"}'),
    ],
)
def test_redact_masks_a_name_that_comes_twice_each_time(make_event, body, field, masked):
    changed = make(Redact, fields=[field], action="mask", mask="-").apply(make_event(body.encode()))
    assert changed.body == masked.encode()


def test_redact_takes_paths_that_cross(redacted):
    data = {"a": {"b": {"x": 1, "y": 2, "z": 3}, "*": {"x": 4, "y": 5}}}
    assert redacted(data, ["a.*.x", "a.b.y", "a.b.z.w"]) == {"a": {"b": {"z": 3}, "*": {"y": 5}}}
    assert redacted(data, ["a.b.y", "a.*", "a.b"]) == {"a": {}}
    hashed = redacted(data, ["a.*.x", "a.b.x"], action="hash")
    assert hashed["a"]["*"]["x"] == sha256(b"4").hexdigest()
    assert hashed["a"]["b"]["x"] == sha256(b"1").hexdigest()


names = st.sampled_from(["a", "b", "c", 'd"', "é"])
leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text()
trees = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=12
)
paths = st.lists(names | st.just("*"), min_size=1, max_size=3)


def leaves_of(value, at=()):
    items = value.items() if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else None
    if not items:
        return {at: value}
    return {path: leaf for key, item in items for path, leaf in leaves_of(item, (*at, key)).items()}


def leads_to(path, at):
    """Whether the path leads to a value at or above a leaf."""
    fits = (step == key or step == "*" for step, key in zip(path, at, strict=False))
    return len(at) >= len(path) and all(fits)


@given(st.dictionaries(names, trees, max_size=4), st.lists(paths, min_size=1, max_size=3), st.booleans())
def test_redact_changes_nothing_else(make_event, data, fields, indented):
    event = make_event(orjson.dumps(data, option=orjson.OPT_INDENT_2 if indented else None))
    changed = make(Redact, fields=[".".join(path) for path in fields], action="mask").apply(event)
    before, after = leaves_of(orjson.loads(event.body)), leaves_of(orjson.loads(changed.body))
    hit = {at for at in before if any(leads_to(path, at) for path in fields)}
    assert {at: leaf for at, leaf in before.items() if at not in hit} == {
        at: leaf for at, leaf in after.items() if leaf != "[REDACTED]"
    }
    assert (changed is event) == (not hit)
