"""`relay test`, on tables [test.NAME] in conf.d."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from relay.cli.main import relay as command
from relay.config import find_folders, load
from relay.config.merge import Merged
from relay.config.plugins.registry import Registry

SHIPPED = Path(__file__).parents[3] / "conf.d"
CONF = """\
[source.s]
type = "currents"
path = "/s"
[connector.archive]
type = "file"
path = "archive/{date}"
keep = "1d"
[connector.heap]
type = "heap"
endpoint = "http://127.0.0.1:9/"
enabled = false
events = ["email", "!*.Open"]
filters = ["vip", "no_mail"]
[filter.vip]
type = "drop"
field = "user.external_user_id"
equals = "u-1"
[filter.no_mail]
type = "redact"
fields = ["properties.*.secret", "properties.email_address"]
"""
SEND = 'event = \'{"event_type": "users.messages.email.Send", "id": "e1", "properties": {"n": 1, "email_address": 1}}\''


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    folder = tmp_path / "conf.d"
    folder.mkdir()
    (folder / "10-all.toml").write_text(CONF)
    return folder


def run(conf: Path, tests: str, *options: str) -> Result:
    (conf / "90-tests.toml").write_text(tests)
    return CliRunner().invoke(command, ["test", str(conf), "--state", str(conf.parent), *options])


def test_the_shipped_tests_pass(tmp_path: Path) -> None:
    answer = CliRunner().invoke(command, ["test", str(SHIPPED), "--state", str(tmp_path)])
    assert (answer.exit_code, answer.output.splitlines()[-1]) == (0, "2 tests: 2 passed, 0 failed")
    assert [*tmp_path.iterdir()] == []


def test_what_came_is_told_with_the_entry_or_filter_that_decided(conf: Path) -> None:
    tests = f"""\
[test.good]
{SEND}
with = {{ "user.external_user_id" = "u-2", "properties.deep.secret" = true }}
expect = {{ heap = "delivered", archive = "delivered" }}
without = {{ heap = ["properties.email_address", "properties.*.secret"] }}
fields = {{ heap = {{ "properties.n" = 1, "user.external_user_id" = "u-2" }} }}
[test.open]
sample = "users.messages.email.Open"
expect = {{ heap = "delivered" }}
[test.none]
sample = "users.behaviors.Purchase"
expect = {{ heap = "filtered" }}
[test.dropped]
{SEND}
with = {{ "user.external_user_id" = "u-1" }}
expect = {{ heap = "delivered" }}
[test.fields]
{SEND}
fields = {{ archive = {{ "properties.n" = true, "user.id" = "x" }} }}
without = {{ archive = ["properties.email_address"] }}
"""
    answer = run(conf, tests)
    assert answer.exit_code == 1
    assert answer.output.splitlines() == [
        "passed  good  90-tests.toml:1: heap (disabled) delivered, archive delivered",
        "FAILED  open  90-tests.toml:7: heap (disabled) delivered",
        '    heap: expected delivered, came unselected (the entry "!*.Open" excludes users.messages.email.Open)',
        "FAILED  none  90-tests.toml:10: heap (disabled) filtered",
        "    heap: expected filtered, came unselected (no entry of events matches users.behaviors.Purchase)",
        "FAILED  dropped  90-tests.toml:13: heap (disabled) delivered",
        '    heap: expected delivered, came filtered (selected by "email"; dropped by vip)',
        "FAILED  fields  90-tests.toml:17: archive delivered",
        "    archive: expected no properties.email_address, came properties.email_address = 1"
        ' (selected by "*"; there are no filters)',
        '    archive: expected properties.n = true, came properties.n = 1 (selected by "*"; there are no filters)',
        '    archive: expected user.id = "x", came no user.id (selected by "*"; there are no filters)',
        "5 tests: 1 passed, 4 failed",
    ]  # fmt: skip


def test_each_event_of_a_file_is_tried(conf: Path) -> None:
    events = [{"event_type": f"users.messages.email.{name}", "id": str(n)} for n, name in enumerate(("Send", "Open"))]
    test = '[test.a]\nfile = "events.ndjson"\nexpect = { heap = "delivered" }\n'
    for text in ("\n".join(map(json.dumps, events)), json.dumps(events), json.dumps({"events": events})):
        (conf / "events.ndjson").write_text(text)
        lines = run(conf, test).output.splitlines()
        assert lines[1].startswith("    heap: event 1: expected delivered, came unselected")
        assert lines[2] == "    heap: 1 of 2 events did not come as expected"
    (conf / "events.ndjson").write_text('{"event_type": "users.messages.email.Send"}\n{"event_type": 3}\n')
    assert run(conf, test).output.splitlines()[1] == "    event 2: is no JSON object with an event_type"
    (conf / "events.ndjson").write_text("")
    assert run(conf, test).output.splitlines()[1] == "    there is no event"
    (conf / "events.ndjson").write_text('[{"event_type": "a"')
    assert "neither NDJSON nor JSON" in run(conf, test).output.splitlines()[1]


def test_an_event_that_a_filter_cannot_handle_is_parked(conf: Path) -> None:
    (conf.parent / "plugins").mkdir()
    (conf.parent / "plugins" / "torn.py").write_text(
        "from relay.api import Filter\n\n\nclass Torn(Filter, type='torn'):\n"
        "    def apply(self, event):\n        raise RuntimeError(event.user['nobody'])\n"
    )
    tables = '[filter.torn]\ntype = "torn"\n[connector.out]\ntype = "stdout"\nfilters = ["torn"]\n'
    tests = (
        f'{tables}[test.a]\n{SEND}\nexpect = {{ out = "parked" }}\n[test.b]\n{SEND}\nexpect = {{ out = "delivered" }}'
    )
    lines = run(conf, tests, "--plugins", str(conf.parent / "plugins")).output.splitlines()
    assert lines[0].startswith("passed  a")
    assert "came parked (selected by \"*\"; parked by torn: KeyError: 'nobody')" in lines[2]


def test_a_filter_whose_secret_cannot_be_read_fails_the_test_alone(conf: Path) -> None:
    tables = (
        '[filter.h]\ntype = "redact"\naction = "hash"\nfields = ["id"]\nsalt = { credential = "no" }\n'
        '[connector.out]\ntype = "stdout"\nfilters = ["h"]\n'
    )
    tests = f'{tables}[test.a]\n{SEND}\nexpect = {{ out = "delivered", archive = "delivered" }}'
    answer = run(conf, tests)
    assert answer.exit_code == 1
    assert "    out: not tried: 90-tests.toml:1: filter.h: cannot be made" in answer.output
    assert "archive: " not in answer.output.splitlines()[1]


@pytest.mark.parametrize(
    ("test", "mistake"),
    [
        ("", "90-tests.toml:1: test.a: set either sample, event or file"),
        (f'{SEND}\nsample = "users.messages.email.Open"', "3: test.a: set either sample, event or file"),
        (
            f'{SEND}\nexpect = {{ haep = "parked" }}',
            "3: test.a.expect.haep: there is no [connector.haep] (did you mean",
        ),
        (f'{SEND}\nexpect = {{ heap = "gone" }}', "3: test.a.expect.heap: expected 'delivered', 'unselected', 'filt"),
        (f'{SEND}\nexpct = {{ heap = "gone" }}', "3: test.a.expct: unknown key (did you mean expect?)"),
        (SEND, "90-tests.toml:1: test.a: expects nothing: set expect, without or fields"),
        ('sample = "users.Opn"\nfields = { heap = { a = 1 } }', "2: test.a.sample: there is no event type users.Opn"),
        (
            'sample = "users.canvas.Abort"\nwithout = { heap = ["a"] }',
            "2: test.a.sample: the type users.canvas.Abort is",
        ),
        ('file = "no.json"\nexpect = { heap = "parked" }', "2: test.a.file: there is no file no.json in /"),
        ('file = "10-all.toml.d"\nexpect = { heap = "parked" }', "2: test.a.file: 10-all.toml.d is no file"),
        ('event = \'{"a": 1\'\nexpect = { heap = "parked" }', "2: test.a: event is no JSON: "),
        ("event = '[]'\nexpect = { heap = \"parked\" }", "2: test.a: event is no JSON object"),
        ("event = '{}'\nexpect = { heap = \"parked\" }", "2: test.a: event has no event_type"),
        (f'{SEND}\nwith = {{ "a.*" = 1 }}\nexpect = {{ heap = "parked" }}', "3: test.a: with: expected a dotted path"),
        (f'{SEND}\nwithout = {{ heap = ["a..b"] }}', "3: test.a: without: expected a dotted path"),
        (
            f'{SEND}\nexpect = {{ heap = "parked" }}\nwithout = {{ heap = ["a"] }}',
            "4: test.a: without is about a deliv",
        ),
    ],
)
def test_a_mistake_has_file_and_line_in_every_command(conf: Path, test: str, mistake: str) -> None:
    (conf / "10-all.toml.d").mkdir()
    answer = run(conf, f"[test.a]\n{test}\n")
    assert answer.exit_code == 78
    assert mistake in answer.output
    checked = CliRunner().invoke(command, ["check", str(conf), "--state", str(conf.parent)])
    assert (checked.exit_code, mistake in checked.output) == (78, True)
    found = json.loads(run(conf, f"[test.a]\n{test}\n", "--json").output)
    assert (found["ok"], found["tests"]) == (False, [])
    assert any(mistake in one for one in found["mistakes"])


def test_all_mistakes_of_a_test_are_told_at_once(conf: Path) -> None:
    test = '[test.a]\nsample = "users.messages.email.Opn"\nexpect = { hep = "delivered" }\nwihtout = {}\n'
    answer = run(conf, test)
    assert answer.exit_code == 78
    for mistake in (
        "90-tests.toml:2: test.a.sample: there is no event type users.messages.email.Opn",
        "90-tests.toml:3: test.a.expect.hep: there is no [connector.hep]",
        "90-tests.toml:4: test.a.wihtout: unknown key",
    ):
        assert mistake in answer.output


def test_a_type_of_ones_own_is_a_warning(conf: Path) -> None:
    text = '[test.a]\nevent = \'{"event_type": "order.New"}\'\nexpect = { archive = "delivered" }\n'
    assert run(conf, text).exit_code == 0
    checked = CliRunner().invoke(command, ["check", str(conf), "--state", str(conf.parent)])
    assert 'warning: 90-tests.toml:2: test.a.event: "order.New" is no known event type' in checked.output


def test_json_and_junit_have_what_the_text_has(conf: Path) -> None:
    junit = conf.parent / "junit.xml"
    tests = (
        f'[test.a]\n{SEND}\nexpect = {{ archive = "delivered" }}\n[test.b]\n{SEND}\nexpect = {{ archive = "filtered" }}'
    )
    found = json.loads(run(conf, tests, "--json", "--junit", str(junit)).output)
    assert [(one["name"], one["ok"], one["line"], one["events"]) for one in found["tests"]] == [
        ("a", True, 1, 1), ("b", False, 4, 1)
    ]  # fmt: skip
    (one,) = found["tests"][1]["connectors"]
    assert (one["ok"], one["expected"], one["outcomes"], one["examples"][0]["event"]) == (
        False, "filtered", {"delivered": 1}, "e1"
    )  # fmt: skip
    whole = ElementTree.parse(junit).getroot()
    cases = [*whole.iter("testcase")]
    assert (whole.get("tests"), whole.get("failures")) == ("2", "1")
    assert [(one.get("name"), one.get("file"), one.get("line")) for one in cases] == [
        ("a", "90-tests.toml", "1"), ("b", "90-tests.toml", "4")
    ]  # fmt: skip
    (failure,) = whole.iter("failure")
    assert str(failure.get("message")).startswith("archive: expected filtered, came delivered")


def test_without_tests_there_is_nothing_to_fail(conf: Path) -> None:
    answer = run(conf, "")
    assert (answer.exit_code, answer.output) == (0, f"0 tests: there is no [test.NAME] in {conf}\n")


def test_a_configuration_in_force_keeps_nothing_of_tests(conf: Path) -> None:
    registry = Registry.discover(())
    before = load(find_folders(conf, conf), registry).config
    (conf / "90-tests.toml").write_text(f'[test.a]\n{SEND}\nexpect = {{ archive = "delivered" }}\n')
    loaded = load(find_folders(conf, conf), registry)
    assert (loaded.config, loaded.config.digests) == (before, before.digests)
    assert isinstance(loaded.merged, Merged)
    assert "test" not in str(loaded.merged.table) + str([*loaded.merged.origins])
