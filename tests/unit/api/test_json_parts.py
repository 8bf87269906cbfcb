"""JSON taken apart by brackets and strings alone comes apart where a decoder would have it."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.api import Walk, is_dense, without_surrogates
from relay.api.json_parts import STEPS

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=30,
)
indents = st.sampled_from([None, 0, 2])


@given(st.lists(values), indents)
def test_elements_are_what_a_decoder_finds(array, indent):
    text = json.dumps(array, indent=indent).encode()
    assert [json.loads(bytes(one)) for one in Walk(text).elements()] == array


@given(st.dictionaries(st.text(alphabet='ab"\\'), values), indents)
def test_members_are_what_a_decoder_finds(object, indent):
    text = b" " + json.dumps(object, indent=indent).encode() + b"\n"
    found = Walk(text).object()
    assert {json.loads(b'"' + name + b'"'): json.loads(bytes(value)) for name, value in found.items()} == object


@pytest.mark.parametrize("levels", [2, 6, 1000, STEPS // 2 - 10])
def test_depth_is_counted(levels):
    deep = b'{"a":[' * (levels // 2) + b"]}" * (levels // 2)
    assert [bytes(one) for one in Walk(b"[1,%s,2]" % deep).elements()] == [b"1", deep, b"2"]


def test_depth_ends():
    with pytest.raises(ValueError, match="nested too deep"):
        list(Walk(b"[" * STEPS * 3 + b"]" * STEPS * 3).elements())


@pytest.mark.parametrize(
    "text", [b"", b"[", b"[1", b"[1 2]", b"[1,]", b"[,]", b"[1]]", b'["a]', b"{}", b"[{]", b"[1]x"]
)
def test_what_is_no_array_is_told(text):
    with pytest.raises(ValueError, match="byte"):
        list(Walk(text).elements())


@pytest.mark.parametrize("size", [1 << 20])
def test_long_values_are_one_value(size):
    for one in (b'"' + b"x" * size + b'"', b'"' + rb"\\" * size + b'"', b"1" * size, b"[" + b"0," * size + b"0]"):
        assert [len(part) for part in Walk(b"[%s,7]" % one).elements()] == [len(one), 1]


@pytest.mark.parametrize(
    ("text", "tame"),
    [
        (rb"\ud83d", rb"\ufffd"),
        (rb"\ud83d\ude00", rb"\ud83d\ude00"),
        (rb"\\ud83d", rb"\\ud83d"),
        (rb"\\\ud83d", rb"\\\ufffd"),
        (rb"\ude00\ud83d", rb"\ufffd\ufffd"),
        (rb"\ud83d\ud83d\ude00", rb"\ufffd\ud83d\ude00"),
        (rb"\uD83D\u0041\n", rb"\ufffd\u0041\n"),
        (rb"\ud83d\\ude00", rb"\ufffd\\ude00"),
        (rb"a\u12", rb"a\u12"),
        (b"\\", b"\\"),
    ],
)
def test_only_unpaired_surrogates_are_replaced(text, tame):
    assert without_surrogates(text) == tame
    assert without_surrogates(b" ".join([text] * 1000)) == b" ".join([tame] * 1000)


@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_any_text_becomes_one_that_decoders_take(text):
    dumped = json.dumps(text).encode()
    tame = without_surrogates(dumped)
    assert len(tame) == len(dumped)
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    expected = "".join("\ufffd" if "\ud800" <= one <= "\udfff" else one for one in whole)
    assert msgspec.json.decode(tame) == expected


def test_real_events_are_not_dense(samples):
    body = b",".join(json.dumps(event, separators=(",", ":")).encode() for event in samples)
    assert not is_dense(body * (1 + (1 << 20) // len(body)))
    assert is_dense(b"{}," * 100_000)
