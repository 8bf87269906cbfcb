"""`relay diff`, on recorded events of a relay that does not run."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from relay.api import Kind
from relay.cli.main import relay as command
from relay.journal.identity import ANY, KnownJournal
from relay.journal.journal import Journal
from relay.state.database import StateDatabase
from relay.store.log import JournalLimits
from relay.trial import DiffRequest

OPEN, SEND, BUY = (
    Kind("braze", name)
    for name in ("users.messages.email.Open", "users.messages.email.Send", "users.behaviors.Purchase")
)
ERASED = Kind("", "relay.erased")
EVENTS = [
    (kind, b'{"event_type": "%s", "id": "e%d", "user": {"user_id": "u%d"}, "properties": {"n": %d, "mail": "a@b"}}'
     % (kind.type.encode(), n, n % 2, n))
    for n, kind in enumerate([OPEN, OPEN, SEND, SEND, SEND, BUY])
]  # fmt: skip
CONF = """\
[source.braze]
type = "currents"
path = "/currents"
[connector.heap]
type = "heap"
endpoint = "http://127.0.0.1:9/"
events = ["email", "!*.Open"]
filters = ["mask"]
[connector.archive]
type = "stdout"
[filter.mask]
type = "redact"
fields = ["properties.mail"]
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a state folder of six events and an erased one, the configuration in force, and the same anew."""
    for name in ("conf.d", "new.d"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "10-all.toml").write_text(CONF)
    asyncio.run(record(tmp_path / "state"))
    books = StateDatabase(tmp_path / "state")
    books.adopt_journal(KnownJournal(ANY, 7), "")
    books.close()
    return tmp_path


async def record(state: Path) -> None:
    journal = Journal(state / "journal", JournalLimits(64 << 20, 3600), 1 << 20)
    kinds, bodies = zip(*EVENTS, strict=True)
    await journal.append([*kinds[:4]], [*bodies[:4]])
    await journal.append([*kinds[4:], ERASED], [*bodies[4:], b"{}"])
    await journal.close()


def run(place: Path, *options: str) -> Result:
    places = "--state", str(place / "state"), "--conf", str(place / "conf.d")
    return CliRunner().invoke(command, ["diff", str(place / "new.d"), *options, *places])


def compare(place: Path, old: str, new: str, *options: str) -> tuple[int, dict[str, Any]]:
    """Change the new configuration; return the exit code, and what differs by connector."""
    text = CONF.replace(old, new)
    assert text != CONF or old == new
    (place / "new.d" / "10-all.toml").write_text(text)
    answer = run(place, *options, "--json")
    found = json.loads(answer.stdout)
    assert found["different"] is (answer.exit_code == 1)
    return answer.exit_code, {one["connector"]: one for one in found["connectors"]}


def counts(one: dict[str, Any]) -> list[int]:
    groups = ("newly_wanted", "no_longer_wanted", "changed", "failing")
    return [one["as_before"], *(one[name]["events"] for name in groups)]


def reasons(group: dict[str, Any]) -> list[tuple[str, str, int]]:
    return [(one["before"], one["now"], one["events"]) for one in group["reasons"]]


def test_the_same_configuration_makes_no_difference(place: Path) -> None:
    code, found = compare(place, "", "")
    assert (code, counts(found["heap"]), counts(found["archive"])) == (0, [6, 0, 0, 0, 0], [6, 0, 0, 0, 0])
    assert run(place).stdout.splitlines()[1:] == ["", "the same: archive, heap"]


def test_other_tables_that_differ_are_told_without_secrets(place: Path) -> None:
    new = 'path = "/currents"\ntokens = [{ env = "PATH" }]\n[journal]\nretention = "2d"'
    assert compare(place, 'path = "/currents"', new)[0] == 1
    answer = run(place)
    assert answer.exit_code == 1
    assert answer.stdout.splitlines()[2:] == [
        "the same: archive, heap",
        "",
        "settings of other tables that differ; only deliveries of recorded events are compared:",
        '  journal.retention: "7d" -> "2d"',
        '  source.braze.tokens: [] -> [{"env":"PATH"}]',
    ]
    assert run(place, "--connector", "heap").exit_code == 0


def test_an_added_table_shows_the_keys_that_are_set(place: Path) -> None:
    added = '[connector.more]\ntype = "stdout"\nfilters = ["keep"]\n[filter.keep]\ntype = "sample"\nrate = 0.5\n'
    _, found = compare(place, "[filter.mask]", added + "[filter.mask]")
    assert [one["path"] for one in found["more"]["settings"]] == [
        "connector.more.type", "connector.more.filters", "filter.keep.type", "filter.keep.rate"
    ]  # fmt: skip
    _, found = compare(place, '[connector.archive]\ntype = "stdout"\n', "")
    assert [one["path"] for one in found["archive"]["settings"]] == ["connector.archive.type"]


def test_a_changed_selection_names_the_entries(place: Path) -> None:
    code, found = compare(place, '["email", "!*.Open"]', '["*.Open", "purchase"]')
    heap = found["heap"]
    assert (code, counts(heap)) == (1, [0, 3, 3, 0, 0])
    assert reasons(heap["newly_wanted"]) == [
        ('unselected by "!*.Open"', 'selected by "*.Open"; changed by mask', 2),
        ("unselected: no entry matches", 'selected by "purchase"; changed by mask', 1),
    ]
    assert reasons(heap["no_longer_wanted"]) == [
        ('selected by "email"; changed by mask', "unselected: no entry matches", 3)
    ]
    assert [one["id"] for one in heap["newly_wanted"]["examples"]] == ["e0", "e1", "e5"]
    assert not found["archive"]["settings"]
    assert [one["path"] for one in heap["settings"]] == ["connector.heap.events"]
    assert not heap["other_settings"]


def test_changed_content_is_shown_field_by_field(place: Path) -> None:
    code, found = compare(place, 'fields = ["properties.mail"]', 'fields = ["user.user_id"]\naction = "mask"')
    heap = found["heap"]
    assert (code, counts(heap)) == (1, [3, 0, 0, 3, 0])
    assert heap["changed"]["examples"][0]["fields"] == [
        {"path": "user.user_id", "before": '"u0"', "now": '"[REDACTED]"'},
        {"path": "properties.mail", "before": "", "now": '"a@b"'},
    ]
    paths = {one["path"]: (one["before"], one["now"]) for one in heap["settings"]}
    assert paths["filter.mask.action"] == ('"remove"', '"mask"')
    lines = run(place).stdout.splitlines()
    assert '      properties.mail: not there -> "a@b"' in lines
    assert "  changed content: 3" in lines


def test_a_new_filter_that_drops_or_fails_is_named(place: Path) -> None:
    (place / "plugins").mkdir()
    (place / "plugins" / "odd.py").write_text(
        "from relay.api import Filter\n\n\nclass Odd(Filter, type='odd'):\n"
        "    def apply(self, event):\n"
        "        n = event.properties['n']\n"
        "        return None if n == 2 else [event, event.with_data({**event.data, 'id': 'x'})] if n == 3 else 1 // 0\n"
    )
    new = 'filters = ["mask", "odd"]\n[filter.odd]\ntype = "odd"'
    code, found = compare(place, 'filters = ["mask"]', new, "--plugins", str(place / "plugins"))
    heap = found["heap"]
    assert (code, counts(heap)) == (1, [3, 0, 1, 1, 1])
    (dropped,), (split,), (failed,) = (heap[name]["reasons"] for name in ("no_longer_wanted", "changed", "failing"))
    assert dropped["now"] == 'selected by "email"; dropped by odd'
    assert split["now"] == 'selected by "email"; split into 2 by odd; changed by mask'
    assert failed["now"].startswith('selected by "email"; parked by odd: ZeroDivisionError')
    (example,) = heap["changed"]["examples"]
    assert example["fields"][0]["path"].startswith("part 1: ")


def test_a_connector_that_comes_or_goes_is_different(place: Path) -> None:
    code, found = compare(place, "[connector.archive]", "[connector.other]")
    assert (code, counts(found["archive"]), counts(found["other"])) == (1, [0, 0, 6, 0, 0], [0, 6, 0, 0, 0])
    assert reasons(found["other"]["newly_wanted"]) == [("not configured", 'selected by "*"', 6)]
    code, found = compare(place, "[connector.archive]", "[connector.archive]\nenabled = false")
    assert (code, counts(found["archive"])) == (1, [0, 0, 6, 0, 0])


def test_another_setting_of_a_connector_is_different_and_told(place: Path) -> None:
    code, found = compare(place, "http://127.0.0.1:9/", "http://127.0.0.1:10/")
    heap = found["heap"]
    assert (code, counts(heap), heap["other_settings"]) == (1, [6, 0, 0, 0, 0], True)
    assert heap["settings"] == [
        {"path": "connector.heap.endpoint", "before": '"http://127.0.0.1:9/"', "now": '"http://127.0.0.1:10/"'}
    ]
    assert compare(place, "http://127.0.0.1:9/", "http://127.0.0.1:10/", "--connector", "archive")[0] == 0


def test_options_limit_what_is_compared(place: Path) -> None:
    old, new = '["email", "!*.Open"]', '["*"]'
    _, found = compare(place, old, new, "--connector", "heap", "--limit", "5")
    assert (list(found), counts(found["heap"])) == (["heap"], [3, 2, 0, 0, 0])
    code, found = compare(place, old, new, "--since", "2100-01-01")
    assert (code, counts(found["heap"])) == (0, [0, 0, 0, 0, 0])
    answer = run(place, "--connector", "hoop")
    assert (answer.exit_code, answer.stderr) == (
        1, "Error: no connector hoop is configured; there are: archive, heap\n"
    )  # fmt: skip


def test_mistakes_of_the_new_configuration_have_file_and_line(place: Path) -> None:
    (place / "new.d" / "10-all.toml.d").mkdir()
    (place / "new.d" / "10-all.toml.d" / "50-more.toml").write_text('[connector.heap]\nevnts = ["*"]\n')
    answer = run(place)
    assert answer.exit_code == 78
    assert "10-all.toml.d/50-more.toml:2: connector.heap.evnts: unknown key (did you mean events?)" in answer.stderr
    assert json.loads(run(place, "--json").stdout)["mistakes"][0]["line"] == 2
    (place / "new.d" / "10-all.toml").write_text("[connector.heap\n")
    assert run(place).exit_code == 78
    (place / "new.d" / "10-all.toml").unlink()
    assert run(place).exit_code in (1, 78)


def test_a_drop_in_overrides_as_on_disk(place: Path) -> None:
    (place / "new.d" / "10-all.toml.d").mkdir()
    (place / "new.d" / "10-all.toml.d" / "50-more.toml").write_text('[connector.heap]\nevents = ["*"]\n')
    found = json.loads(run(place, "--json").stdout)
    assert [counts(one) for one in found["connectors"]] == [[6, 0, 0, 0, 0], [3, 3, 0, 0, 0]]
    files = {"20.toml": "c", "10.toml.d/9.toml": "b", "10.toml": "a", "10.toml.d/8.toml": "d"}
    assert [one.name for one in DiffRequest(files=files).list_texts()] == [
        "10.toml", "10.toml.d/8.toml", "10.toml.d/9.toml", "20.toml"
    ]  # fmt: skip


def test_nothing_of_the_state_folder_changes(place: Path) -> None:
    def read() -> dict[Path, bytes]:
        files = (place / "state").rglob("*")
        return {
            path: path.read_bytes() for path in files if path.is_file() and not path.name.endswith(("-wal", "-shm"))
        }

    before = read()
    assert compare(place, '"!*.Open"', '"!*.Send"')[0] == 1
    assert read() == before
