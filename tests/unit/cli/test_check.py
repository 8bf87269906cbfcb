import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import relay_plugins as plugins
import relay_plugins.filters
from relay import __version__
from relay.cli.added import find_added
from relay.cli.main import relay as command
from relay.config import Registry

PLUGIN = """
import click
from relay.api import *

class Hook(Source, type="hook"):
    def authorize(self, request):
        pass

    def decode(self, request):
        raise Malformed("no event")

class Post(Connector, type="post"):
    async def deliver(self, batch):
        pass

class All(Filter, type="all"):
    def apply(self, event):
        return event

@click.command
def greet():
    click.echo("hello")

@hookimpl
def relay_types():
    return [Hook, Post, All]

@hookimpl
def relay_commands():
    return [greet]
"""
TORN = """
from relay.api import *

class Torn(Filter, type="torn"):
    def __init__(self, name, settings):
        print("not in the way of JSON")
        raise RuntimeError("torn")

    def apply(self, event):
        return event
"""
GOOD = "[source.s]\ntype = 'hook'\npath = '/s'\n[connector.c]\ntype = 'post'\nevents = ['email']\n"


@pytest.fixture
def conf(tmp_path):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "tiny.py").write_text(PLUGIN)
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "a.toml").write_text(GOOD)
    return tmp_path / "conf.d"


def run(*words):
    return CliRunner().invoke(command, [str(word) for word in words])


def check(conf, *more):
    return run("check", conf, "--plugins", conf.parent / "plugins", *more)


def test_a_good_configuration_passes(conf):
    answer = check(conf)
    assert (answer.exit_code, answer.output) == (
        0,
        "0 mistakes, 0 warnings\ngood: 1 source, 1 connector, 0 filters\n",
    )


def test_a_check_without_a_probe_says_what_only_the_database_knows(conf, monkeypatch):
    monkeypatch.setenv("DSN", "host=localhost")
    (conf / "b.toml").write_text('[journal]\nbackend = "postgres"\ndsn = { env = "DSN" }\n')
    assert "not looked at without --probe: the database, and whether it has more partitions" in check(conf).output


def test_every_mistake_is_shown_with_its_line_then_the_warnings(conf):
    (conf / "a.toml").write_text(GOOD + "evnts = 'hunter2'\nrate = -1\n")
    answer = check(conf)
    assert (answer.exit_code, answer.output.splitlines()) == (
        78,
        [
            "a.toml:7: connector.c.evnts: unknown key (did you mean events?)",
            "     7 | evnts = ...",
            "a.toml:8: connector.c.rate: must be at least 0",
            "     8 | rate = -1",
            "(... stands for what is not shown because it may be secret)",
            "2 mistakes, 0 warnings",
        ],
    )


def test_warnings_do_not_fail_the_check(conf):
    (conf / "a.toml").write_text(GOOD.replace("email", "emial"))
    answer = check(conf)
    assert answer.exit_code == 0
    assert answer.output.splitlines()[0].startswith("warning: a.toml:6: connector.c.events[0]: ")


def test_of_very_many_the_first_are_shown_and_json_has_all(conf):
    """Looked at: warnings, mistakes, those that another command meets."""
    (conf / "a.toml").write_text(GOOD.replace("'email'", ", ".join(f"'no.{number}'" for number in range(3000))))
    shown = check(conf).output.splitlines()
    assert [line for line in shown if "more" in line] == ["and 2,900 more warnings, see relay check --json"]
    assert (len(shown), shown[-2]) == (204, "0 mistakes, 3,000 warnings")
    assert len(json.loads(check(conf, "--json").output)["warnings"]) == 3000
    (conf / "a.toml").write_text(GOOD + "".join(f"key{number} = 1\n" for number in range(102)))
    for found in (check(conf), run("run", "--conf", conf, "--plugins", conf.parent / "plugins")):
        assert "and 2 more mistakes, see relay check --json\n" in found.output
        assert "key99:" in found.output
        assert "key100:" not in found.output
        assert "102 mistakes, 0 warnings" in found.output
    assert len(json.loads(check(conf, "--json").output)["mistakes"]) == 102


def test_outside_systemd_a_credential_is_not_missed(conf, monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    (conf / "a.toml").write_text(GOOD.replace("[connector", "tokens = [{ credential = 'x' }]\n[connector"))
    answer = check(conf)
    assert answer.exit_code == 0
    assert answer.output.startswith("warning: a.toml:4: source.s.tokens[0]: ")
    assert "only the service has it, if its unit has LoadCredential=x:/PATH" in answer.output


def test_filters_and_sources_are_made_or_it_is_said_that_they_were_not(conf, monkeypatch):
    """Looked at: a filter that two connectors name, one beside a connector whose secret cannot be read; doctor."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    (conf.parent / "plugins" / "torn.py").write_text(TORN)
    secret = "token = { credential = 'x' }"
    sink = "[connector.w]\ntype = 'http'\nurl = 'http://127.0.0.1:9'\nfilters = ['f']\n"
    (conf / "b.toml").write_text(f"{sink}{secret}\n[filter.f]\ntype = 'torn'\n[connector.v]\ntype = 'post'\n")
    lines = check(conf).stdout.splitlines()
    assert "b.toml:6: filter.f: cannot be made: RuntimeError: torn" in lines
    assert lines[-1] == "not made, as their secrets cannot be read here: connector.w"
    assert json.loads(check(conf, "--json").stdout)["untried"] == ["connector.w"]
    state = ["--state", conf.parent / "state", "--plugins", conf.parent / "plugins"]
    told = run("doctor", "--conf", conf, *state).output
    assert "problem  configuration        b.toml:6: filter.f: cannot be made: RuntimeError: torn\n" in told
    assert "configuration        not made, as their secrets cannot be read here: connector.w\n" in told


def test_a_file_of_a_secret_does_not_depend_on_the_working_directory(conf, monkeypatch):
    monkeypatch.chdir(conf)
    (conf / "token").write_text("s3cret")
    (conf / "a.toml").write_text(GOOD.replace("[connector", "tokens = [{ file = 'token' }]\n[connector"))
    answer = check(conf)
    assert answer.exit_code == 78
    assert '{ file = "token" } cannot be read: write its path from / on' in answer.output


def test_machines_get_json(conf):
    assert json.loads(check(conf, "--json").output) == {"ok": True, "mistakes": [], "warnings": []}
    (conf / "a.toml").write_text(GOOD + "rate = -1\n")
    answer = check(conf, "--json")
    found = json.loads(answer.output)
    assert (answer.exit_code, found["ok"]) == (78, False)
    assert {"file": "a.toml", "line": 7, "key": "connector.c.rate"}.items() <= found["mistakes"][0].items()


def test_every_command_says_what_is_wrong_with_the_configuration(conf):
    (conf / "a.toml").write_text("[log]\nlevel = 'loud'\n")
    answer = run("run", "--conf", conf)
    assert answer.exit_code == 78
    assert answer.stderr.startswith("a.toml:2: log.level: expected 'debug', 'info', 'warning' or 'error'\n     2 | ")


@pytest.mark.parametrize("words", [("check",), ("check", "--conf"), ("run", "--conf")])
def test_a_folder_that_is_not_there_is_a_wrong_configuration(conf, words):
    answer = run(*words, conf / "no")
    assert answer.exit_code == 78
    assert f"there is no configuration folder; looked for {conf / 'no'}" in answer.output
    assert "could not be read" not in answer.output


def test_the_folder_can_be_given_in_two_ways_but_not_in_both(conf):
    assert run("check", "--conf", conf, "--plugins", conf.parent / "plugins").output == check(conf).output
    assert run("check", conf, "--conf", conf).exit_code == 2


def test_what_is_switched_off_is_counted_by_itself(conf):
    off = "[connector.off]\ntype = 'post'\nenabled = false\n"
    (conf / "a.toml").write_text(f"{GOOD}filters = ['f']\n{off}[filter.f]\ntype = 'all'\n")
    assert check(conf).output.splitlines()[-1] == "good: 1 source, 1 connector (1 disabled), 1 filter"


def test_plugins_are_listed_with_what_they_provide_or_why_not(conf):
    (conf.parent / "plugins" / "bad.py").write_text("1 / 0")
    answer = run("plugins", "--plugins", conf.parent / "plugins")
    assert answer.exit_code == 0
    assert "BROKEN: ZeroDivisionError: division by zero" in answer.output
    assert "source hook, connector post, filter all" in answer.output
    found = json.loads(run("plugins", "--json", "--plugins", conf.parent / "plugins").output)
    assert [plugin["name"] for plugin in found][:2] == ["bad", "tiny"]


def test_two_providers_of_a_type_or_command_are_named_with_their_places(conf, monkeypatch):
    """Looked at: a type that is not in use, a table that is switched off, the list of plugins."""
    drop_in = conf.parent / "plugins" / "mine.py"
    filters = "class F(Filter, type='redact'): apply = print\nclass G(Filter, type='keep'): apply = print\n"
    command_of = "import click\n@click.command\ndef audit(): pass\n@hookimpl\ndef relay_commands(): return [audit]\n"
    drop_in.write_text(f"from relay.api import *\n{filters}{command_of}")
    (conf / "b.toml").write_text("[connector.d]\ntype = 'post'\nfilters = ['r']\n[filter.r]\ntype = 'redact'\n")
    lines = check(conf).output.splitlines()
    built_in = Path(plugins.filters.__file__).parent
    mine, theirs = f"plugin mine ({drop_in})", f"plugin filters (currents-relay, {built_in})"
    assert f"warning: relay audit: the command of relay itself counts, that of {mine} is left out" in lines
    said = f'the filter type "redact" of {mine} counts, that of {theirs} is left out'
    assert f"warning: b.toml:5: filter.r.type: {said}" in lines
    assert "0 mistakes, 2 warnings" in lines
    told = run("plugins", "--plugins", drop_in.parent).output
    assert "its command audit is left out: that of relay itself counts\n" in told
    assert f"    its filter redact is left out: that of {mine} counts\n" in told
    (conf / "b.toml").write_text("[connector.d]\ntype = 'post'\nenabled = false\n")
    assert '"redact"' not in check(conf).output


def test_a_broken_plugin_is_a_warning_of_every_check(conf):
    (conf.parent / "plugins" / "bad.py").write_text("print('hello')\n1 / 0")
    answer = check(conf, "--json")
    assert answer.exit_code == 0
    (warning,) = json.loads(answer.stdout)["warnings"]
    bad = conf.parent / "plugins" / "bad.py"
    assert warning["reason"] == f"plugin bad ({bad}) cannot be used: ZeroDivisionError: division by zero"


def test_commands_of_plugins_are_commands_of_relay(conf, monkeypatch):
    monkeypatch.setattr("relay.cli.added.PLUGIN_FOLDERS", [conf.parent / "plugins"])
    assert run("greet").output == "hello\n"
    assert {"greet", "cohorts"} <= {*run("--help").output.split()}


def test_commands_of_own_plugins_are_found_without_the_others(monkeypatch):
    monkeypatch.setattr("relay.cli.added.PLUGIN_FOLDERS", [])
    monkeypatch.setattr(Registry, "discover", None)
    found = [one.name for one in find_added()]
    monkeypatch.undo()
    assert {*found} == {one.name for one in Registry.discover(()).list_commands()} == {"cohorts", "postgres"}


def test_the_version_is_told():
    assert run("--version").output == f"relay, version {__version__}\n"


def test_a_check_does_not_wait_for_libraries_that_it_can_do_without():
    code = """
import sys
from relay.cli.main import relay

relay(["check", sys.argv[1]], standalone_mode=False)
print({*sys.argv[2:]} & sys.modules.keys(), file=sys.stderr)
"""
    shipped = Path(__file__).parents[3] / "conf.d"
    of_relay = ["aiohttp", "rich", "structlog", "uvloop"]
    of_types = ["aiokafka", "aiosmtplib", "asyncpg", "cramjam", "fastavro", "obstore", "psycopg", "pyarrow"]
    command = [sys.executable, "-c", code, shipped, *of_relay, *of_types]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    assert answer.stderr == "set()\n"
