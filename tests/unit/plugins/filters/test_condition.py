import re
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_plugins.filters import Drop, Keep
from tests.unit.plugins.filters.make import make

EVENT = {
    "event_type": "users.messages.email.Open",
    "id": "1",
    "time": 1793534400,
    "user": {"user_id": "u", "external_user_id": None},
    "properties": {
        "n": 1,
        "yes": True,
        "email": "a@example.com",
        "tags": ["x", "y"],
        "at": "2026-11-01",
        "ms": 1793534400000,
    },
}


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ({"field": "event_type", "equals": "users.messages.email.Open"}, True),
        ({"field": "event_type", "glob": "users.messages.email.*"}, True),
        ({"field": "event_type", "glob": "Users.*"}, False),
        ({"field": "properties.n", "equals": 1}, True),
        ({"field": "properties.n", "equals": 1.0}, True),
        ({"field": "properties.n", "equals": "1"}, False),
        ({"field": "properties.n", "equals": True}, False),
        ({"field": "properties.yes", "equals": True}, True),
        ({"field": "properties.yes", "equals": 1}, False),
        ({"field": "properties.n", "in": [3, 1]}, True),
        ({"field": "properties.n", "in": [3, True]}, False),
        ({"field": "properties.tags", "equals": "x"}, False),
        ({"field": "properties.tags.*", "equals": "y"}, True),
        ({"field": "properties.email", "glob": "*@example.com"}, True),
        ({"field": "properties.n", "glob": "*"}, False),
        ({"field": "user.user_id", "exists": True}, True),
        ({"field": "user.user_id", "exists": False}, False),
        ({"field": "user.external_user_id", "exists": True}, False),
        ({"field": "user.device_id.x", "exists": False}, True),
        ({"field": "nothing", "equals": "x"}, False),
        ({"field": "nothing", "in": [False, 0, ""]}, False),
        ({"field": ["properties.n", "user.user_id"], "equals": "u"}, True),
        ({"field": ["properties.n", "user.user_id"], "equals": "v"}, False),
        ({"field": ["user.external_user_id", "user.user_id"], "exists": True}, True),
        ({"field": ["user.external_user_id", "user.user_id"], "exists": False}, False),
        ({"field": ["user.external_user_id", "nothing"], "exists": False}, True),
        ({"field": "properties.*", "exists": False}, False),
        ({"field": "properties.email", "regex": "@example"}, True),
        ({"field": "properties.email", "regex": "^@example"}, False),
        ({"field": "properties.email", "regex": "(?i)^A@EXAMPLE"}, True),
        ({"field": "properties.n", "regex": "1"}, False),
        ({"field": "properties.n", "less": 1.5}, True),
        ({"field": "properties.n", "less": 1}, False),
        ({"field": "properties.n", "more": 0}, True),
        ({"field": "properties.yes", "more": 0}, False),
        ({"field": "properties.email", "more": 0}, False),
        ({"field": "time", "more": "2026-11-01T00:00Z"}, True),
        ({"field": "time", "less": "2026-11-01T00:00Z"}, False),
        ({"field": "properties.ms", "less": "2026-11-01T12:00:01+00:00"}, True),
        ({"field": "properties.at", "less": "2026-11-02"}, True),
        ({"field": "properties.at", "more": "2026-11-02"}, False),
        ({"field": "properties.email", "less": "2026-11-02"}, False),
        ({"field": "nothing", "less": "2026-11-02"}, False),
        ({"all": [{"field": "properties.n", "equals": 1}, {"field": "properties.yes", "equals": True}]}, True),
        ({"all": [{"field": "properties.n", "equals": 1}, {"field": "properties.yes", "equals": False}]}, False),
        ({"any": [{"field": "properties.n", "equals": 2}, {"field": "properties.yes", "equals": True}]}, True),
        ({"any": [{"field": "properties.n", "equals": 2}]}, False),
        ({"not": {"field": "nothing", "exists": True}}, True),
    ],
)
def test_keep_and_drop(make_event, condition, holds):
    event = make_event(EVENT)
    assert make(Keep, **condition).apply(event) is (event if holds else None)
    assert make(Drop, **condition).apply(event) is (None if holds else event)


PATHS = st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=3).map(".".join) | st.just("event_type")
SCALARS = st.sampled_from([0, 1, 1.0, 2, True, False, "x", "xy", "2026-11-01", ""])
TESTS = st.one_of(
    st.builds(lambda value: {"equals": value}, SCALARS),
    st.builds(lambda values: {"in": values}, st.lists(SCALARS, min_size=1, max_size=3)),
    st.builds(lambda pattern: {"glob": pattern}, st.sampled_from(["x*", "?y", "[!x]*", ""])),
    st.builds(lambda pattern: {"regex": pattern}, st.sampled_from(["x", "^x$", "y?$", ""])),
    st.builds(lambda name, limit: {name: limit}, st.sampled_from(["less", "more"]), st.sampled_from([0, 1.5])),
    st.builds(lambda name: {name: "1970-01-01T00:00:01Z"}, st.sampled_from(["less", "more"])),
    st.builds(lambda value: {"exists": value}, st.booleans()),
)
FIELDS = PATHS | st.lists(PATHS, min_size=1, max_size=3)
CONDITIONS = st.recursive(
    st.builds(lambda field, test: {"field": field, **test}, FIELDS, TESTS),
    lambda inner: st.one_of(
        st.builds(
            lambda name, some: {name: some}, st.sampled_from(["all", "any"]), st.lists(inner, min_size=1, max_size=3)
        ),
        st.builds(lambda one: {"not": one}, inner),
    ),
    max_leaves=6,
)
VALUES = st.recursive(
    st.none() | SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b", "*"]), inner, max_size=3),
    max_leaves=8,
)


def interpret(condition, event):
    """Tell whether a condition holds, step by step."""
    for name, combine in (("all", all), ("any", any)):
        if name in condition:
            return combine([interpret(one, event) for one in condition[name]])
    if "not" in condition:
        return not interpret(condition["not"], event)
    fields = condition["field"] if isinstance(condition["field"], list) else [condition["field"]]
    values = [value for field in fields for value in look_up(field.split("."), event)]
    if condition.get("exists") is False:
        return all(value is None for value in values)
    return any(passes(condition, value) for value in values)


def look_up(path, event):
    values = [event.type] if path == ["event_type"] else [event.data]
    for step in path if path != ["event_type"] else []:
        inner = [
            value.items()
            if isinstance(value, dict)
            else [("*", one) for one in value]
            if isinstance(value, list) and step == "*"
            else []
            for value in values
        ]
        values = [one for items in inner for key, one in items if step in ("*", key)]
    return values


def passes(condition, value):
    ((name, wanted),) = [(name, wanted) for name, wanted in condition.items() if name != "field"]
    match name:
        case "exists":
            return value is not None
        case "equals" | "in":
            same = [one for one in (wanted if name == "in" else [wanted]) if one == value]
            return any(isinstance(one, bool) == isinstance(value, bool) for one in same)
        case "glob":
            return isinstance(value, str) and fnmatchcase(value, wanted)
        case "regex":
            return isinstance(value, str) and re.search(wanted, value) is not None
    number = None if isinstance(value, bool) or not isinstance(value, int | float) else value
    if isinstance(wanted, str):
        wanted, number = 1, 1793491200 if value == "2026-11-01" else number
    return number is not None and (number < wanted if name == "less" else number > wanted)


@given(CONDITIONS, st.dictionaries(st.sampled_from(["a", "b"]), VALUES, max_size=2))
def test_a_compiled_condition_is_what_the_words_say(make_event, condition, data):
    event = make_event({"id": "1", "event_type": "x", **data})
    assert (make(Keep, **condition).apply(event) is event) == interpret(condition, event)
    assert (make(Drop, **condition).apply(event) is None) == interpret(condition, event)


def test_a_regular_expression_takes_no_time_on_text_that_is_made_for_it(make_event):
    keep = make(Keep, field="a", regex="(x+x+)+y")
    assert keep.apply(make_event({"a": "x" * 100_000})) is None


def test_keep_by_type_does_not_look_into_the_event(make_event):
    event = make_event(b'{"n":1e999}')
    assert make(Keep, field="event_type", glob="users.*").apply(event) is event
