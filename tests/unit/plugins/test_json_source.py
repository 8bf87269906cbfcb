from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from relay.api import Malformed, Request
from relay_plugins.json_source import Json
from tests.deep import LEVELS, TOO_MANY_LEVELS, refused


def source(**settings):
    return Json("web", Json.Settings(type="json", path="/web", **settings))


A, B = b'{"event_type":"a","id":"1"}', b'{"id":2, "event_type":"b"}'
PRETTY = b'{\n  "event_type": "p",\n  "id": 3\n}'


def taken(decoded):
    return [(kind.type, bytes(body)) for kind, body in zip(decoded.kinds, decoded.bodies, strict=True)]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", []),
        (b"[]", []),
        (A, [("a", A)]),
        (b"\n" + PRETTY + b"\n", [("p", PRETTY)]),
        (b" [" + A + b", " + PRETTY + b"]", [("a", A), ("p", PRETTY)]),
        (A + b"\n" + B, [("a", A), ("b", B)]),
        (A + b"\r\n\r\n" + B + b"\r\n", [("a", A), ("b", B)]),
    ],
)
def test_the_shape_shows_in_the_body(body, expected):
    assert taken(source().decode(Request(body))) == expected


def test_the_fields_have_the_names_of_the_settings():
    decoded = source(type_field="kind", id_field="uuid", time_field="at").decode(
        Request(b'{"kind":"x","uuid":"1","at":5}')
    )
    (kind,) = decoded.kinds
    assert (kind.type, kind.id_field, kind.time_field) == ("x", "uuid", "at")


@pytest.mark.parametrize("body", [b"[" + A + b",7," + B + b"]", A + b"\nno\n" + B])
def test_ids_are_told_of_the_events_alone_and_only_to_whom_wants_them(body):
    assert source(dedupe="1h").decode(Request(body)).ids == ["1", "2"]
    assert source(dedupe="1h").decode(Request(PRETTY)).ids == ["3"]
    assert source().decode(Request(body)).ids is None


def test_a_bad_entry_or_line_is_unreadable_and_the_rest_goes_on():
    for body, where in ((b"[" + A + b",7]", "entry 2"), (A + b"\n7", "line 2"), (A + b'\n\n{"event_type', "line 3")):
        decoded = source().decode(Request(body))
        assert taken(decoded) == [("a", A)]
        assert [where in unreadable.reason for unreadable in decoded.unreadable] == [True]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"7", "got `int`"),
        (b"{}", "missing required field"),
        (b'{"event_type":"a","id":""}', r"length >= 1"),
        (b'{"event_type":"a","id":18446744073709551617}', r"\$.id"),
        (b'{"event_type":', "not JSON"),
        (b"[" + A, "not JSON"),
        (b"hello\nworld", "line 1"),
        (b"\xff", "UTF-8"),
        (b"[" * TOO_MANY_LEVELS + b"]" * TOO_MANY_LEVELS, "nested too deep"),
        (b"{" + b'"a":{' * TOO_MANY_LEVELS, "nested too deep"),
    ],
)
def test_a_body_without_an_event_is_malformed_and_says_why(body, why):
    with pytest.raises(Malformed, match=why):
        source().decode(Request(body))


DEEP = b'{"event_type":"d","id":1,"x":' + b"[" * LEVELS + b"]" * LEVELS + b"}"
CUT = rb'{"id":"c","event_type":"c","x":"\ud83d"}'
LATIN = b'{"id":"l","event_type":"l","x":"caf\xe9"}'


@pytest.mark.parametrize("bad", [pytest.param(DEEP, marks=refused), LATIN, b'{"id":1,"event_type":NaN}'])
def test_what_the_decoder_refuses_in_one_entry_costs_that_entry(bad):
    for before, behind, shape in ((b"", b"", b"[%s%s,%s%s]"), (b"\n", b"\r\n", b"%s%s\n%s%s")):
        decoded = source().decode(Request(shape % (before, A, bad, behind)))
        assert taken(decoded) == [("a", A)]
        assert [one.body for one in decoded.unreadable] == [bad]


@pytest.mark.parametrize("body", [b"[%s]", b"%s", b"[%s,%s]", b"%s\n%s", b"\n%s\n"])
def test_unpaired_surrogates_pass_as_they_came(body):
    number = body.count(b"%s")
    assert taken(source().decode(Request(body % ((CUT,) * number)))) == [("c", CUT)] * number
    pretty = CUT.replace(b",", b",\n")
    assert taken(source().decode(Request(pretty))) == [("c", pretty)]


@pytest.mark.parametrize("body", [b"[" + b"{}," * 300_000 + b"{}]", A + b"\n7" * 300_000])
def test_a_flood_of_what_is_no_event_is_refused_as_a_whole(body):
    with pytest.raises(Malformed, match="more than 1000 entries are unreadable"):
        source().decode(Request(body))


def test_blank_lines_are_counted_in_numbers_and_cost_nothing_else():
    decoded = source().decode(Request(A + b"\n \r\n" * 500_000 + b"no\n" + B))
    assert taken(decoded) == [("a", A), ("b", B)]
    assert decoded.unreadable[0].reason.startswith("line 1000001 is no event")


def test_type_and_id_are_two_fields():
    with pytest.raises(ValidationError, match="the same field"):
        source(type_field="id")


@given(st.lists(st.sampled_from([A, B]), min_size=1), st.booleans())
def test_what_came_goes_on(bodies, as_lines):
    decoded = source().decode(Request(b"\n".join(bodies) if as_lines else b"[" + b",".join(bodies) + b"]"))
    assert [bytes(body) for body in decoded.bodies] == bodies


@given(st.binary() | st.text().map(str.encode) | st.lists(st.binary()).map(lambda junk: b"[%b]" % b",".join(junk)))
def test_junk_is_malformed_at_worst(junk):
    with suppress(Malformed):
        decoded = source().decode(Request(junk))
        assert len(decoded.kinds) == len(decoded.bodies)


def test_an_event_with_bad_utf8_in_an_unread_field_is_malformed():
    with pytest.raises(Malformed, match="the body is no event: not UTF-8"):
        source().decode(Request(b'{"event_type":"a","id":"1","x":"\xff"}'))
