"""How forms are made of schemas, and that saving a form changes nothing that nobody touched."""

import json
import tomllib
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("jinja2", reason="the console takes the package currents-relay[console]")

from relay.console.forms.fields import Field, FieldControl, flatten, list_fields, make_fields
from relay.console.forms.values import (
    FormValues,
    find_pasted,
    is_same,
    read_form,
    refer_to_file,
    show_again,
    show_form,
)
from relay.proposal.available import list_available
from relay.words import escape

SECRET = {"x-secret": True, "type": "object", "properties": {"env": {"type": "string"}}}
UNITS = {"x-units": ["s", "m"], "anyOf": [{"type": "string"}, {"const": 0}]}


@cache
def make_forms() -> dict[tuple[str, str], tuple[Field, ...]]:
    """Return the fields of each type, by its kind and its name."""
    return {(one.kind, one.type): make_fields(one.kind, one.schema) for one in list_available([], {}).types}


def find_form(kind: str, type: str) -> tuple[Field, ...]:
    return make_forms()[kind, type]


def post(shown: Mapping[str, str]) -> dict[str, str]:
    """Return what a browser posts of a page with these inputs: the page escapes, and a browser writes CR LF."""
    return {name: escape(text).replace("\n", "\r\n") for name, text in shown.items()}


def keep(fields: tuple[Field, ...], table: dict[str, Any]) -> FormValues:
    """Show a table of the files in its form, and read the form as it is posted."""
    return read_form(fields, post(show_form(fields, table, table)), table)


def a_schema(**properties: Any) -> dict[str, Any]:
    return {"properties": properties, "additionalProperties": False}


def show_one(part: Any, value: Any) -> dict[str, str]:
    """Return what the field of a setting shows of a value, without the name of the setting."""
    fields = make_fields("filter", a_schema(it=part))
    return {name.removeprefix("set.it"): text for name, text in show_form(fields, {"it": value}, {}).items()}


def read_one(part: Any, **form: str) -> FormValues:
    fields = make_fields("filter", a_schema(it=part))
    return read_form(fields, {f"set.it{name}".replace("_", ":"): text for name, text in form.items()}, {})


@pytest.mark.parametrize(
    ("part", "value", "shown"),
    [
        ({"type": "string"}, "x = 1", {"": "x = 1"}),
        ({"type": "string"}, "", {":toml": '""'}),
        ({"type": "string"}, " x", {":toml": '" x"'}),
        ({"type": "string"}, "x\ny", {":toml": '"x\\ny"'}),
        ({"type": "string"}, "x\u202ey", {":toml": '"x\\u202ey"'}),
        ({"type": "string"}, 5, {":toml": "5"}),
        ({"type": "integer"}, 5, {"": "5"}),
        ({"type": "integer"}, 5.0, {":toml": "5.0"}),
        ({"type": "integer"}, "5", {":toml": '"5"'}),
        ({"type": "integer"}, "five", {"": "five"}),
        ({"type": "number"}, 1e300, {"": "1e+300"}),
        ({"type": "number"}, float("inf"), {":toml": "inf"}),
        ({"type": "boolean"}, False, {"": "no"}),
        ({"type": "boolean"}, "no", {":toml": '"no"'}),
        (UNITS, "30s", {"": "30s"}),
        (UNITS, 0, {"": "0"}),
        (UNITS, 30, {":toml": "30"}),
        ({"enum": ["a", "b"]}, "b", {"": "b"}),
        ({"enum": ["a", "b"]}, "c", {"": "c"}),
        ({"enum": [1, "1"]}, 1, {"": "1"}),
        ({"enum": [1, "1"]}, "1", {"": '"1"'}),
        ({"anyOf": [{"type": "string"}, {"type": "boolean"}]}, "true", {"": '"true"'}),
        ({"anyOf": [{"type": "string"}, {"type": "boolean"}]}, '"', {"": '"'}),
        ({"type": "array", "items": {"type": "string"}}, ["a", "b c"], {"": "a\nb c"}),
        ({"type": "array", "items": {"type": "string"}}, [], {":toml": "[]"}),
        ({"type": "array", "items": {"type": "string"}}, "a", {":toml": '"a"'}),
        ({"type": "array", "items": {"type": "integer"}}, [1] * 1001, {":toml": f"[{', '.join(['1'] * 1001)}]"}),
        ({"type": "array", "items": {"type": "integer"}}, [1, 2], {"": "1\n2"}),
        ({"type": "object", "additionalProperties": {"type": "string"}}, {"a b": "c = d"}, {"": "a b = c = d"}),
        ({"type": "object", "additionalProperties": {"type": "string"}}, {"a=b": "c"}, {":toml": '"a=b" = "c"'}),
        ({"type": "object", "additionalProperties": SECRET}, {"X": {"env": "Y"}}, {"": 'X = { env = "Y" }'}),
        (SECRET, {"env": "X"}, {":from": "env", ":at": "X"}),
        (SECRET, {"env": ""}, {":toml": 'env = ""'}),
        (SECRET, {"vault": "x"}, {":toml": 'vault = "x"'}),
        (SECRET, {"env": "X", "file": "Y"}, {":toml": 'env = "X"\nfile = "Y"'}),
        ({"anyOf": [{"type": "string"}, SECRET]}, "/etc/ca.pem", {":from": "text", ":at": "/etc/ca.pem"}),
        ({"type": "array", "items": SECRET}, [{"env": "X"}], {":0:from": "env", ":0:at": "X"}),
        ({"type": "array", "items": SECRET}, [{"env": "X"}, 1], {":toml": '[\n  { env = "X" },\n  1,\n]'}),
        ({"properties": {"a": {"type": "integer"}}}, {"a": 1}, {".a": "1"}),
        ({"properties": {"a": {"type": "integer"}}}, {"a": "1"}, {".a:toml": '"1"'}),
        ({"properties": {"a": {"type": "integer"}}}, {"a": 1, "b": 2}, {":toml": "a = 1\nb = 2"}),
        ({"properties": {"a": {"type": "integer"}}}, {}, {":toml": "{}"}),
        ({}, [{"a": 1}, {"a": 2.0}], {":toml": "[\n  { a = 1 },\n  { a = 2.0 },\n]"}),
        (True, datetime(2026, 1, 2, tzinfo=UTC), {":toml": "2026-01-02T00:00:00+00:00"}),
        ({"oneOf": [{"type": "object"}, {"type": "array"}]}, {"x": [1]}, {":toml": "x = [1]"}),
    ],
)  # fmt: skip
def test_a_value_is_shown_as_its_control_reads_it(part: Any, value: Any, shown: dict[str, str]) -> None:
    assert show_one(part, value) == shown
    fields = make_fields("filter", a_schema(it=part))
    assert is_same(keep(fields, {"it": value}).values, {"it": value})


@pytest.mark.parametrize(
    ("part", "form", "reason"),
    [
        ({}, {"_toml": "{"}, "not TOML"),
        ({}, {"_toml": "a"}, "not TOML"),
        ({}, {"_toml": "a.b = 1\na = 2"}, "not TOML"),
        ({}, {"_toml": "x" * 70_000}, "64 KiB"),
        ({"type": "array", "items": {"type": "string"}}, {"": "x\n" * 1001}, "1,000 lines"),
        (SECRET, {"_from": "paste"}, "paste the secret"),
        (SECRET, {"_from": "env", "_paste": "s3cret"}, "not kept"),
        (SECRET, {"_from": "text", "_at": "s3cret"}, "choose where the secret is"),
        (SECRET, {"_at": "x"}, "choose where the secret is"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, {"": "a"}, "name = value"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, {"": "a=1\na=2"}, "there twice"),
    ],
)
def test_what_cannot_be_read_is_a_mistake_at_its_field(part: Any, form: dict[str, str], reason: str) -> None:
    read = read_one(part, **form)
    assert reason in read.mistakes["set.it"]
    assert read.values == {}


def test_an_empty_field_is_left_out() -> None:
    fields = find_form("connector", "http")
    names = [one.name for one in flatten(fields)]
    form = {name + part: " " for name in names for part in ("", ":toml")} | {f"{name}:from": "" for name in names}
    assert read_form(fields, form, {}) == FormValues()


def test_a_pasted_secret_becomes_a_reference_and_is_never_shown_again() -> None:
    fields = find_form("source", "currents")
    form = {"set.tokens:0:from": "env", "set.tokens:0:at": "OLD", "set.tokens:1:from": "paste", "set.tokens:1:at": ""}
    form["set.tokens:1:paste"] = "s3cret"
    refused = read_form(fields, form, {})
    assert "not kept" in refused.mistakes["set.tokens"]
    assert "s3cret" not in str(show_again(fields, form, refused, {}))
    tokens = next(one for one in fields if one.label == "tokens")
    assert [*find_pasted(fields, form, {})] == [(tokens, "set.tokens:1", "s3cret")]
    kept = refer_to_file(form, "set.tokens:1", "/state/secrets/x")
    read = read_form(fields, kept, {})
    assert read == FormValues({"tokens": [{"env": "OLD"}, {"file": "/state/secrets/x"}]})
    assert "s3cret" not in str(kept)


@pytest.mark.parametrize(
    ("way", "place", "counts"),
    [
        ("", "", True),
        ("env", "OLD", True),
        ("file", "/state/secrets/sink-token", True),
        ("file", "/etc/token", False),
        ("env", "NEW", False),
        ("credential", "OLD", False),
    ],
)
def test_a_pasted_secret_counts_unless_the_choice_was_changed(way: str, place: str, *, counts: bool) -> None:
    fields = find_form("connector", "heap")
    shown = show_form(fields, {"token": {"env": "OLD"}}, {})
    form = shown | {"set.token:from": way, "set.token:at": place, "set.token:paste": " s3cret\n"}
    found = [(name, secret) for _, name, secret in find_pasted(fields, form, shown, "/state/secrets")]
    assert found == ([("set.token", "s3cret")] if counts else [])


@pytest.mark.parametrize(
    ("way", "time", "value", "mistake"),
    [
        ("", "2026-11-01T00:00", "2026-11-01T00:00Z", ""),
        ("time", "2026-11-01T00:00", "2026-11-01T00:00Z", ""),
        ("time", "", None, "choose a time"),
        ("now", "2026-11-01T00:00", None, "a time is filled in, but the choice is now"),
    ],
)
def test_a_time_counts_without_a_choice(way: str, time: str, value: str | None, mistake: str) -> None:
    read = read_form(find_form("connector", "heap"), {"set.from:from": way, "set.from:at": time}, {})
    assert read.values.get("from") == value
    assert read.mistakes.get("set.from", "").startswith(mistake)
    assert bool(read.mistakes) is bool(mistake)


@pytest.mark.parametrize(("way", "asked"), [("file", "the path of the file"), ("env", "the name of the variable")])
def test_a_secret_without_a_place_asks_for_it(way: str, asked: str) -> None:
    read = read_form(find_form("connector", "heap"), {"set.token:from": way, "set.token:at": ""}, {})
    assert read.mistakes == {"set.token": f"write {asked} beside the choice"}


def test_a_form_that_cannot_be_read_is_shown_as_it_was_typed() -> None:
    fields = make_fields("filter", a_schema(odd={}, max=UNITS))
    form = {"set.odd:toml": "{ a", "set.max": "30s"}
    assert show_again(fields, form, read_form(fields, form, {}), {}) == form


def test_a_secret_in_plain_text_of_a_file_is_kept_and_not_shown() -> None:
    fields = find_form("connector", "http")
    table = {"headers": {"Authorization": "Bearer s3cret"}, "url": "http://x?token=abc", "method": "PUT"}
    shown = show_form(fields, table, table)
    assert shown == {"set.headers:keep": "yes", "set.url:keep": "yes", "set.method": "PUT"}
    assert read_form(fields, shown, table).values == {"url": table["url"]} | table
    replaced = {"set.headers": "X = y", "set.url": "http://x?token=other"}
    again = read_form(fields, replaced, table)
    assert again.values == {"url": "http://x?token=other", "headers": {"X": "y"}}
    assert show_again(fields, replaced, again, table) == replaced


def test_settings_without_a_field_are_lines_of_toml() -> None:
    fields = make_fields("filter", a_schema(it={"type": "string"}))
    assert show_form(fields, {"it": "x", "more": [1]}, {}) == {"set.it": "x", "set:toml": "more = [1]"}
    read = read_form(fields, {"set:toml": 'it = "y"'}, {})
    assert read.mistakes == {"set": "it: has a field of its own"}
    assert read_form(fields, {"set:toml": "5"}, {}).mistakes
    whole = make_fields("filter", None)
    assert [one.name for one in whole] == ["set"]
    assert keep(whole, {"a": {"b": 1}}).values == {"a": {"b": 1}}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("now", {"set.from:from": "now"}),
        ("2026-11-01T00:00Z", {"set.from:from": "time", "set.from:at": "2026-11-01T00:00"}),
        ("2026-11-01T00:00:30Z", {"set.from:from": "time", "set.from:at": "2026-11-01T00:00:30"}),
        ("2026-11-01T00:00:00Z", {"set.from:toml": '"2026-11-01T00:00:00Z"'}),
        ("2026-11-01", {"set.from:toml": '"2026-11-01"'}),
    ],
)
def test_a_connector_starts_now_at_the_oldest_or_at_a_time(value: str, shown: dict[str, str]) -> None:
    fields = find_form("connector", "file")
    assert show_form(fields, {"from": value}, {}) == shown
    assert keep(fields, {"from": value}).values == {"from": value}


def test_what_a_first_launch_needs_comes_first_and_the_rest_is_folded_away() -> None:
    heap = find_form("connector", "heap")
    shown = [one.label for one in heap if not one.fold]
    assert shown == ["endpoint", "mode", "token", "app_id", "api_key", "events", "filters", "from"]
    assert {"region", "names"} <= {one.label for one in heap if one.fold == "type"}
    assert {"retry", "batch", "ca", "enabled"} <= {one.label for one in heap if one.fold == "kind"}
    part = {"type": "object", "required": ["it"], "properties": {"it": {"type": "string"}}}
    foreign = make_fields("connector", a_schema(room=part, secret=SECRET, calm={"default": "x", "type": "string"}))
    assert [one.label for one in foreign if not one.fold] == ["secret"]
    assert {one.fold for one in find_form("filter", "redact") if one.label in ("fields", "action")} == {""}
    assert [one.label for one in find_form("source", "currents")][:2] == ["path", "tokens"]


def test_a_field_says_when_a_table_needs_it() -> None:
    def find_needs(kind: str, type: str) -> dict[str, str]:
        return {one.label: one.need for one in flatten(find_form(kind, type)) if one.need}

    assert find_needs("connector", "http")["url"] == "required"
    assert find_needs("connector", "heap") == {"endpoint": "required, unless you change mode"}
    assert find_needs("connector", "braze_cohorts")["endpoint"] == "required: cluster or endpoint"
    assert find_needs("filter", "keep")["any"] == "required: field, all, any or not"
    odd = {"properties": {"a": {}, "b": {"default": 1}}, "x-needs": [["b"], ["a", "b", "c"], ["a"]]}
    assert [one.need for one in make_fields("filter", odd) if one.path] == ["required, unless you change b", ""]


def test_a_table_that_holds_itself_has_an_end() -> None:
    schema = {
        "properties": {"next": {"$ref": "#/$defs/one"}},
        "$defs": {"one": {"properties": {"next": {"$ref": "#/$defs/one"}}}},
    }
    assert [(one.name, one.control) for one in flatten([*list_fields(schema)])] == [
        ("set.next", FieldControl.TABLE),
        ("set.next.next", FieldControl.TOML),
    ]
    fields = make_fields("filter", schema)
    assert keep(fields, {"next": {"next": {"next": {}}}}).values == {"next": {"next": {"next": {}}}}


def test_a_setting_is_described_in_words() -> None:
    schema = {
        "required": ["url"],
        "properties": {
            "url": {"type": "string", "description": "Where to send."},
            "retry": {"$ref": "#/$defs/retry", "description": "Waits.", "default": {"max": "1m"}},
            "token": SECRET,
            "mode": {"enum": ["a", "b"], "default": "a"},
            "own": {},
            "odd": True,
        },
        "$defs": {"retry": {"properties": {"max": {"default": "5m", **UNITS}}}},
    }
    assert [(one.name, one.takes, one.doc, one.is_required) for one in flatten([*list_fields(schema)])] == [
        ("set.url", "a text", "Where to send.", True),
        ("set.retry", "", "Waits.", False),
        ("set.retry.max", "a number with a unit: s, m", "", False),
        ("set.token", "a reference to a secret: credential, file or env", "", False),
        ("set.mode", "a or b", "", False),
        ("set.own", "", "", False),
        ("set.odd", "", "", False),
    ]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    [
        "a",
        "true",
        "5",
        "1.0",
        '"',
        "{",
        "[",
        "=",
        " ",
        "now",
        "30s",
        "a\nb",
        "a = 1",
        "\u202e",
        "\r",
        "env",
        "Authorization",
    ]
)
scalars = (
    texts
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats()
    | st.datetimes().map(lambda one: one.replace(fold=0))
    | st.dates()
    | st.times().map(lambda one: one.replace(fold=0))
    | st.fixed_dictionaries({"env": texts})
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)
plain = st.sampled_from(
    [
        {"type": "string"},
        {"type": "integer"},
        {"type": "number"},
        {"type": "boolean"},
        {"enum": ["a", ""]},
        {"enum": ["a", 5, True]},
        UNITS,
        SECRET,
        {},
        True,
        {"$ref": "#/$defs/x"},
        {"$ref": "#/$defs/none"},
        {"type": 5},
    ]
)
parts = st.recursive(
    plain,
    lambda inner: (
        st.builds(lambda items: {"type": "array", "items": items}, inner)
        | st.builds(lambda one: {"type": "object", "additionalProperties": one}, inner)
        | st.builds(lambda one: {"type": "object", "patternProperties": {"^x": one}}, inner)
        | st.builds(lambda some: {"anyOf": some}, st.lists(inner, max_size=3))
        | st.builds(lambda some: {"properties": some}, st.dictionaries(texts, inner, max_size=3))
    ),
    max_leaves=6,
)
KEYS = ["from", "events", "a", "b.c", '"', "paste", "a b"]


@given(st.data())
def test_any_table_is_kept_by_any_form(data: st.DataObject) -> None:
    properties = data.draw(st.dictionaries(st.sampled_from(KEYS), parts, max_size=4))
    schema = {"properties": properties, "$defs": {"x": data.draw(parts)}}
    fields = make_fields(data.draw(st.sampled_from(["connector", "filter"])), json.loads(json.dumps(schema)))
    table = data.draw(st.dictionaries(st.sampled_from([*KEYS, "more"]), values, max_size=4))
    read = keep(fields, table)
    assert not read.mistakes
    assert is_same(read.values, table)
    again = {**read.values}
    assert is_same(keep(fields, again).values, table)


@given(st.data())
def test_any_table_is_kept_by_the_forms_of_built_in_types(data: st.DataObject) -> None:
    fields = make_forms()[data.draw(st.sampled_from([*make_forms()]))]
    keys = [one.label for one in fields if one.path]
    table = data.draw(st.dictionaries(st.sampled_from([*keys, "more"]), values, max_size=4))
    read = keep(fields, table)
    assert not read.mistakes
    assert is_same(read.values, table)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "$ref",
                    "$defs",
                    "properties",
                    "items",
                    "anyOf",
                    "enum",
                    "const",
                    "type",
                    "x-units",
                    "x-secret",
                    "x",
                    "default",
                    "required",
                    "description",
                    "additionalProperties",
                    "patternProperties",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values, json_values)
def test_no_schema_of_a_plugin_breaks_its_form(properties: Any, named: Any) -> None:
    schema = {"properties": {"it": properties}, "$defs": {"x": named}}
    fields = make_fields("connector", schema)
    assert [one.takes for one in flatten(fields)]
    assert keep(fields, {"it": "x"}).values == {"it": "x"}


def test_a_date_and_a_time_are_kept() -> None:
    fields = make_fields("filter", None)
    table = {"a": date(2026, 1, 2), "b": time(3, 4, 5, 6), "c": tomllib.loads("x = 2026-01-02 03:04:05+02:00")["x"]}
    assert is_same(keep(fields, table).values, table)
