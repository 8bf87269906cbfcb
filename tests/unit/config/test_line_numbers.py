import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.config.files import Document
from relay.config.line_numbers import locate_keys

TEXT = '''\
# a comment
title = """
[connector.heap]
token = 1
"""

[source.braze]
type = "currents"
tokens = [
  { env = "A" },
  { env = "B" },
]

# about heap
[connector.heap]
batch.events = 5
[[list]]
a = 1
[[list]]
a = 2
[list.inner]
"b.\\u0063" . d = [
  # [
  [1, {e = 1, f.g = [ "]" ]}],
  1979-05-27 07:32:00, "=",
  2.5]
'''


def locate(text, path):
    return Document("a.toml", "a.toml", text, {}).find_line(path)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("title",), 2),
        (("source",), 7),
        (("source", "braze", "type"), 8),
        (("source", "braze", "tokens", 1, "env"), 11),
        (("source", "braze", "nothing"), 7),
        (("connector", "heap"), 15),
        (("connector", "heap", "batch", "events"), 16),
        (("connector", "heap", "batch", "age"), 16),
        (("list", 1, "a"), 20),
        (("list", 1, "inner", "b.c", "d"), 22),
        (("list", 1, "inner", "b.c", "d", 0, 1, "f", "g", 0), 24),
        (("list", 1, "inner", "b.c", "d", 2), 25),
        (("list", 1, "inner", "b.c", "d", 3), 26),
        (("nothing",), None),
        ((), None),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_key_is_found_at_its_line(path, line, newline):
    assert locate(TEXT.replace("\n", newline), path) == line


VALUES = st.sampled_from(
    [
        "1",
        '"text"',
        "[\n  1,\n  # [b]\n  2,\n]",
        '"""\n[a]\na = 1\n"""',
        "'''\n\na = 2'''",
        "{ a = 1, b = 2 }",
        "[[], [{}, { a = [ '[' ] }, [1,],\n], 07:32:00]",
        '"""\\"""# \n""""',
        "'''x'''''",
        "1979-05-27 07:32:00.5",
        '"a\u2028b"',
    ]
)
KEYS = st.lists(st.sampled_from(["a", "b", "c.d", '"e f"']), unique=True, max_size=4)
BETWEEN = st.sampled_from(["", "\n", "# a = 1\n", "\n# [a]\n\n", "# a\u2028\x85b\n"])


@settings(deadline=None)
@given(st.data(), st.lists(st.sampled_from(["x", "x.y", "z", "w.a"]), unique=True, max_size=4))
def test_every_key_of_a_written_file_is_found_where_it_was_written(data, tables):
    text, expected = "", {}
    for table in tables:
        text += data.draw(BETWEEN)
        text += f"[{table}]\n"
        for key in data.draw(KEYS):
            text += data.draw(BETWEEN)
            expected[(*table.split("."), *key.strip('"').split("."))] = text.count("\n") + 1
            text += f"{key} = {data.draw(VALUES)}\n"
    found = locate_keys(text)
    assert set(found) == set(paths((), tomllib.loads(text)))
    assert {path: found[path] for path in expected} == expected


def paths(path, value):
    """Every key, table and entry of an array."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*path, key)
            yield from paths((*path, key), inner)
