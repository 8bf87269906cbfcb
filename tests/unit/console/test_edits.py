"""Tables as files of the console, and what the files say afterwards."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.deep import TOO_MANY_LEVELS

pytest.importorskip("tomlkit", reason="the console takes the package currents-relay[console]")

from relay.config import ConfFolders, ConfigError, is_file_name
from relay.console.edits.conf import MARK, ConfView
from relay.console.edits.diff import MOST_EVENT_LINES, compare_files, show_example
from relay.console.edits.tables import put_table, remove_table, switch_table
from relay.proposal import Example
from relay.words import format_toml

PERSONS = """# Heap, for the growth team

[connector.heap]
type = "heap"
endpoint = "https://heap.example/hook"   # from the wiki
events = ["email"]
batch.events = 50

[filter.no_emails]
type = "redact"
"""
ALL = {("type",): None, ("endpoint",): None, ("events",): None, ("batch", "events"): 100, ("batch", "size"): "1MiB"}


class Conf:
    """A conf.d with the console's folder, or with --conf DIR."""

    def __init__(self, root: Path, *, given: bool = False) -> None:
        self.etc, self.own = root / "etc", root / "etc" if given else root / "state" / "conf.d"
        self.folders = ConfFolders([self.etc]) if given else ConfFolders([self.etc, root / "usr"], self.own)
        self.write(self.etc, "00-relay.toml", "[console]\nlaunch = true\n")

    @staticmethod
    def write(folder: Path, name: str, text: str) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)

    def apply(self, files: Mapping[str, str | None]) -> None:
        for name, text in files.items():
            assert is_file_name(name)
            if text is None:
                (self.own / name).unlink()
            else:
                self.write(self.own, name, text)

    def table(self, name: str = "heap") -> dict[str, Any]:
        found = self.read().get("connector", name)
        assert found is not None
        return found

    def read(self) -> ConfView:
        return ConfView.read(self.folders)


@pytest.fixture(params=[False, True], ids=["console's folder", "--conf"])
def conf(request: pytest.FixtureRequest, tmp_path: Path) -> Conf:
    return Conf(tmp_path, given=request.param)


def test_a_new_table_is_a_file_of_its_own(conf: Conf) -> None:
    values = {"type": "heap", "token": {"file": "/run/token"}, "batch": {"events": 5}, "events": ["email", "!a.b"]}
    files = put_table(conf.read(), "connector", "heap", values, {})
    assert files == {
        "60-heap.toml": f'{MARK}\n[connector.heap]\ntype = "heap"\ntoken = {{ file = "/run/token" }}\n'
        'batch = { events = 5 }\nevents = ["email", "!a.b"]\n'
    }
    conf.apply(files)
    view = conf.read()
    assert view.get("connector", "heap") == values
    assert [view.is_own(one) for one in view.documents if "heap" in one.name] == [True]


@pytest.mark.parametrize("name", ["", "../x", "a/b", "A", "a.b", "x\n", "60-x.toml.d/y"])
def test_a_name_leads_nowhere_else(conf: Conf, name: str) -> None:
    with pytest.raises(ConfigError, match="a name is made of"):
        put_table(conf.read(), "connector", name, {"type": "http"}, {})


def test_a_taken_name_is_refused_also_where_it_is_masked(conf: Conf) -> None:
    (conf.etc / "60-gone.toml").symlink_to("/dev/null")
    conf.write(conf.folders.others[-1], "60-packed.toml", '[connector.else]\ntype = "http"\n')
    for name in ("gone", "packed"):
        assert conf.read().is_taken("connector", name)
        with pytest.raises(ConfigError, match=f"60-{name}.toml is there already: choose another name"):
            put_table(conf.read(), "connector", name, {"type": "http"}, {})


def test_the_file_of_a_person_stays_and_a_drop_in_says_what_differs(conf: Conf) -> None:
    conf.write(conf.etc, "60-heap.toml", PERSONS)
    view = conf.read()
    wanted = conf.table()
    files = put_table(view, "connector", "heap", {**wanted, "events": ["email", "push"]}, ALL)
    text = f'{MARK}\n[connector.heap]\nevents = ["email", "push"]\n'
    assert files == {"60-heap.toml.d/50-console.toml": text}
    conf.apply(files)
    view = conf.read()
    assert view.find_place("connector", "heap", "events", 0).endswith("60-heap.toml.d/50-console.toml:3")
    # A key goes back to its default: the file has another value, so the drop-in says the default
    less = {key: value for key, value in conf.table().items() if key != "batch"}
    conf.apply(put_table(view, "connector", "heap", less, ALL))
    assert conf.table()["batch"] == {"events": 100}
    # As the person wrote it: the drop-in has nothing to say any more
    assert put_table(conf.read(), "connector", "heap", wanted, ALL) == {"60-heap.toml.d/50-console.toml": None}
    assert (conf.etc / "60-heap.toml").read_text() == PERSONS


def test_what_a_later_file_says_is_not_for_the_console_to_change(conf: Conf) -> None:
    conf.write(conf.etc, "60-heap.toml", PERSONS)
    conf.write(conf.etc, "60-heap.toml.d/70-night.toml", '[connector.heap]\nevents = ["sms"]\n')
    view = conf.read()
    with pytest.raises(ConfigError) as refused:
        put_table(view, "connector", "heap", {**conf.table(), "events": ["push"]}, ALL)
    (mistake,) = refused.value.mistakes
    assert mistake.key == "connector.heap.events"
    assert mistake.reason == "60-heap.toml.d/70-night.toml:2 comes later, and sets it: change it there"
    # What it sets is no obstacle for other keys
    conf.apply({"60-heap.toml.d/50-console.toml": f'{MARK}\n[connector.heap]\nevents = ["push"]\n'})
    conf.apply({"60-heap.toml.d/80-own.toml": f"{MARK}\n[connector.heap]\nbatch.events = 7\n"})
    files = put_table(conf.read(), "connector", "heap", {**conf.table(), "endpoint": "https://h"}, ALL)
    assert files == {
        "60-heap.toml.d/50-console.toml": f'{MARK}\n[connector.heap]\nevents = ["push"]\nendpoint = "https://h"\n'
    }
    with pytest.raises(ConfigError, match=r"endpoint: is set at 60-heap.toml:5, and has no default to go back to"):
        put_table(view, "connector", "heap", {"type": "heap"}, {("endpoint",): None})


def test_comments_and_keys_by_hand_stay_in_a_file_of_the_console(conf: Conf) -> None:
    text = f"""{MARK}
# by hand
[connector.heap]
type = "heap" # the best
window = "3s"     # a key by hand
events = [
  "email",  # most of it
]

[connector.heap.batch]
events = 5
size = "1MiB" # the default, written by hand
"""
    conf.apply({"60-heap.toml": text})
    wanted = {"type": "heap", "endpoint": "https://h", "batch": {"events": 7}, "events": ["email"]}
    files = put_table(conf.read(), "connector", "heap", wanted, ALL)
    expected = text.replace("events = 5", "events = 7").replace("]\n\n", ']\nendpoint = "https://h"\n\n')
    assert files == {"60-heap.toml": expected}


def test_a_table_is_switched_off_and_on_again(conf: Conf) -> None:
    conf.write(conf.etc, "60-heap.toml", PERSONS)
    off = switch_table(conf.read(), "connector", "heap", enabled=False)
    assert off == {"60-heap.toml.d/50-console.toml": f"{MARK}\n[connector.heap]\nenabled = false\n"}
    conf.apply(off)
    conf.apply(switch_table(conf.read(), "filter", "no_emails", enabled=False))
    on = switch_table(conf.read(), "connector", "heap", enabled=True)
    assert on == {"60-heap.toml.d/50-console.toml": f"{MARK}\n[filter.no_emails]\nenabled = false\n"}


def test_only_tables_of_the_console_are_removed(conf: Conf) -> None:
    conf.write(conf.etc, "60-heap.toml", PERSONS)
    conf.apply({"60-own.toml": f'{MARK}\n[connector.own]\ntype = "http"\n'})
    conf.apply({"60-own.toml.d/50-console.toml": f'{MARK}\n[connector.own]\nurl = "x"\n'})
    assert remove_table(conf.read(), "connector", "own") == {
        "60-own.toml": None, "60-own.toml.d/50-console.toml": None,
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"a person wrote it at 60-heap.toml:3: remove it there"):
        remove_table(conf.read(), "connector", "heap")
    with pytest.raises(LookupError):
        remove_table(conf.read(), "connector", "none")


def test_a_broken_file_of_others_leaves_the_rest_to_be_seen(conf: Conf) -> None:
    conf.write(conf.etc, "60-heap.toml", PERSONS)
    conf.write(conf.etc, "61-broken.toml", "[connector.x\n")
    view = conf.read()
    assert [one.file for one in view.mistakes] == ["61-broken.toml"]
    assert conf.table()["type"] == "heap"
    assert view.texts == {}


def test_a_diff_shows_references_and_no_secret() -> None:
    before = {"60-x.toml": 'a = 1\ntoken = { file = "/run/t" }\ntoken = "plain-1"\n'}
    after = {"60-x.toml": before["60-x.toml"] + 'secrets = [{ env = "A" }]\npassword = "plain-2"\n', "61-y.toml": None}
    (diff,) = compare_files(before, after)
    assert [line.text for line in diff.lines] == [
        "@@ -1,3 +1,5 @@", " a = 1", ' token = { file = "/run/t" }', " token = ...",
        '+secrets = [{ env = "A" }]', "+password = ...",
    ]  # fmt: skip


def test_a_diff_of_long_texts_takes_no_time_and_is_cut() -> None:
    before, after = ("".join(f"# {number % 97} {which}\n" for number in range(40_000)) for which in "ab")
    (diff,) = compare_files({"60-x.toml": "# same\n" + before}, {"60-x.toml": "# same\n" + after})
    assert diff.lines[0].text == "@@ -2,40000 +2,40000 @@"
    assert (len(diff.lines), diff.lines[-1].text) == (5001, "@@ 75,001 more lines @@")


def an_example(event: bytes, before: bytes | None = None) -> Example:
    return Example(
        offset=0, received=0.0, source="x", type="x", event=msgspec.Raw(event), changed=before is not None,
        before=msgspec.Raw(before or b"null"),
    )  # fmt: skip


def test_an_example_marks_the_lines_that_filters_change() -> None:
    lines = show_example(an_example(b'{"a":1.10,"b":{"c":3}}', b'{"a":1.10,"b":{"c":2,"d":null}}'))
    assert [(line.text, line.kind) for line in lines] == [
        (" {", "same"),
        ('   "a": 1.10,', "same"),
        ('   "b": {', "same"),
        ('-    "c": 2,', "removed"),
        ('-    "d": null', "removed"),
        ('+    "c": 3', "added"),
        ("   }", "same"),
        (" }", "same"),
    ]
    gone = show_example(an_example(b'{"a":1}', b'{"a":1,"b":2}'))
    assert [line.text for line in gone] == [" {", '   "a": 1', '-  "b": 2', " }"]
    assert [line.text for line in show_example(an_example(b'{"a":null}'))] == [" {", '   "a": null', " }"]


def test_a_long_example_is_cut() -> None:
    lines = show_example(an_example(b"[%s]" % b",".join([b"1"] * 3000), b"[]"))
    assert (len(lines), lines[-1].text) == (MOST_EVENT_LINES + 2, "+... (2,002 more lines)")


def test_an_example_that_is_nested_very_deep_is_shown_on_one_line() -> None:
    deep = b'{"a":' * TOO_MANY_LEVELS + b"1" + b"}" * TOO_MANY_LEVELS
    (line,) = show_example(an_example(deep))
    assert line.text.startswith(' {"a":{"a":')


KEYS = st.sampled_from(["a", "b", "c d", "é"])
VALUES = st.one_of(
    st.integers(-9, 9), st.booleans(), st.text(max_size=6).filter(lambda text: "\ud800" not in text),
    st.lists(st.one_of(st.integers(0, 3), st.dictionaries(KEYS, st.integers(0, 3), max_size=2)), max_size=3),
    st.fixed_dictionaries({"file": st.sampled_from(["/a", "/b"])}),
)  # fmt: skip
TABLES = st.dictionaries(KEYS, st.one_of(VALUES, st.dictionaries(KEYS, VALUES, min_size=1, max_size=3)), max_size=4)
KNOWN: dict[Any, Any] = {(key,): 0 for key in ("a", "b", "c d", "é")}


@settings(deadline=None)
@given(first=TABLES, second=TABLES, hand=TABLES, is_own=st.booleans())
def test_after_any_change_conf_d_says_what_was_wanted(
    tmp_path_factory: pytest.TempPathFactory, first: Any, second: Any, hand: Any, is_own: bool
) -> None:
    conf = Conf(tmp_path_factory.mktemp("conf"))
    first, second = {"type": "x", **first}, {"type": "x", **second}
    if is_own:
        conf.apply(put_table(conf.read(), "connector", "one", first, {}))
    else:
        lines = [f"{format_toml(key)} = {format_toml(value)}" for key, value in first.items()]
        conf.write(conf.etc, "60-one.toml", "\n".join(["[connector.one]", *lines, "hand = { x = 1 }", ""]))
    persons = {path: path.read_bytes() for path in conf.etc.rglob("*.toml")}
    for wanted in (second, first, second):
        # What is gone has the default 0 where a file of a person says otherwise
        conf.apply(put_table(conf.read(), "connector", "one", wanted, {("type",): None, **KNOWN, **_below(conf)}))
        found = conf.read().get("connector", "one")
        assert found is not None
        found.pop("hand", None)
        assert _without_defaults(found, wanted) == _plain(wanted)
        assert put_table(conf.read(), "connector", "one", wanted, {("type",): None, **KNOWN, **_below(conf)}) == {}
    assert persons == {path: path.read_bytes() for path in conf.etc.rglob("*.toml")}


def _below(conf: Conf) -> dict[Any, Any]:
    """Return the keys within the tables of the table, with the default 0."""
    table = conf.read().get("connector", "one") or {}
    return {(key, inner): 0 for key, value in table.items() if isinstance(value, dict) for inner in value}


def _plain(table: Any) -> Any:
    """Return a table as TOML has it."""
    return tomllib.loads(f"x = {format_toml(table)}")["x"]


def _without_defaults(found: Any, wanted: Any) -> Any:
    if not isinstance(found, dict) or not isinstance(wanted, dict):
        return found
    kept = {key: _without_defaults(value, wanted.get(key)) for key, value in found.items()}
    return {
        key: value for key, value in kept.items() if key in wanted or (value != 0 and value != {} and not _zeros(value))
    }


def _zeros(value: Any) -> bool:
    return isinstance(value, dict) and all(one == 0 for one in value.values())
