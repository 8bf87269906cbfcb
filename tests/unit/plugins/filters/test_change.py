"""The quick way to change an event's JSON, against the thorough way."""

import json

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from relay_plugins.filters.change import REMOVED, make_change, make_thorough_change

NAMES = ["a", "b", 'c"', "é", "/"]
ACTIONS = {
    "remove": lambda value: REMOVED,
    "mask": lambda value: Raw(b'"[REDACTED]"'),
    "shorten": lambda value: Raw(b"1"),
    "numbers only": lambda value: value if bytes(value)[:1] in b'"{[ntf' else REMOVED,
}


@st.composite
def written_names(draw):
    """A name as a sender may write it: with or without escapes."""
    name = draw(st.sampled_from(NAMES))
    escaped = json.dumps(name).replace("/", "\\/") if draw(st.booleans()) else json.dumps(name, ensure_ascii=False)
    return f'"\\u0061{escaped[2:]}' if name == "a" and draw(st.integers(0, 3)) == 0 else escaped


blanks = st.sampled_from(["", "", "", "", " ", "\n"])
leaves = st.sampled_from(["1", "1.50", "1e999", "null", "true", '"x"', '"[REDACTED]"', '"\\u00e9"', "[ 1,2]"])


def objects(inner):
    """JSON of objects, in which names may come twice and blanks may stand anywhere."""
    fields = st.lists(st.tuples(written_names(), inner), max_size=4)
    joined = st.tuples(fields, blanks, blanks)
    return joined.map(
        lambda made: f"{{{made[1]}{f',{made[2]}'.join(f'{name}:{value}' for name, value in made[0])}{made[1]}}}"
    )


values = st.recursive(leaves, lambda inner: objects(inner) | st.lists(inner, max_size=2).map(
    lambda made: f"[{','.join(made)}]"
), max_leaves=10)  # fmt: skip
paths = st.lists(
    st.lists(st.sampled_from([*NAMES, "q", *map(str, range(9))]), min_size=1, max_size=3).map(tuple),
    min_size=1,
    max_size=12,
)


@given(objects(values) | values, paths, st.sampled_from(sorted(ACTIONS)))
def test_the_quick_change_makes_what_the_thorough_change_makes(body, paths, action):
    change, thorough, event = (
        make_change(paths, ACTIONS[action]),
        make_thorough_change(paths, ACTIONS[action]),
        body.encode(),
    )
    made, expected = change(event), thorough(event)
    assert made == expected
    json.loads(made)
    if expected is event:
        assert made is event
