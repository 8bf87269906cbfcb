"""`relay init` and `relay new`: what they write works as it is."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import relay.cli.commands.config.init  # noqa: F401  the name leads to the command
from relay.cli.commands.doctor import service
from relay.cli.main import relay as command

init = sys.modules["relay.cli.commands.config.init"]
ROOT = Path(__file__).parents[3]


def run(*words: object) -> Result:
    return CliRunner().invoke(command, [*map(str, words)])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_configuration_to_start_from_is_good(tmp_path: Path) -> None:
    answer = run("init", tmp_path / "conf.d")
    assert answer.exit_code == 0
    assert f"relay check --conf {tmp_path}/conf.d\n" in answer.output
    assert run("check", tmp_path / "conf.d").exit_code == 0
    assert {path.name for path in (tmp_path / "conf.d").iterdir()} == {
        path.name for path in (ROOT / "conf.d").iterdir()
    }


def test_a_folder_with_files_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text("mine")
    answer = run("init", tmp_path)
    assert (answer.exit_code, contents(tmp_path)) == (1, {str(tmp_path / "my.toml"): b"mine"})
    assert answer.output == f"left as it is: {tmp_path} has files already\n"


def test_the_unit_runs_this_relay_with_that_configuration(tmp_path: Path) -> None:
    answer = run("init", tmp_path / "conf.d", "--unit-file", tmp_path / "relay.service")
    assert answer.exit_code == 0
    unit = (tmp_path / "relay.service").read_text()
    (relay, options) = re.findall(r"^ExecStart=(\S+) run(.*)$", unit, re.MULTILINE)[0]
    assert (Path(relay).exists(), options) == (True, f" --conf {tmp_path}/conf.d")
    assert "/opt/relay" not in unit
    (manual,) = re.findall(r"^Documentation=file://(\S+)$", unit, re.MULTILINE)
    assert Path(manual).is_file()


def test_a_unit_that_could_not_start_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (init, service):
        monkeypatch.setattr(module, "find_own_command", lambda: Path("/home/me/venv/bin/relay"))
    monkeypatch.setenv("PATH", str(tmp_path))  # no systemctl
    answer = run("init", tmp_path / "conf.d", "--unit-file", tmp_path / "relay.service")
    assert answer.exit_code == 0
    why = "/home/me/venv/bin/relay: ProtectHome=yes in relay.service hides it"
    assert f"warning: the service cannot start like this: {why}" in answer.stderr
    assert "make install" in answer.stderr
    *_, program, _ = run("doctor", "--conf", tmp_path / "conf.d", "--state", tmp_path / "state").output.splitlines()
    said = f"this relay can be run by hand, not by the unit that comes with it: {why}"
    assert program == f"ok       program              {said}", "what is well needs no advice"


def test_the_folder_behind_unit_is_that_of_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(init, "UNIT", tmp_path / "relay.service")
    assert run("init", "--unit", tmp_path / "conf.d").exit_code == 0
    assert (tmp_path / "relay.service").is_file()
    assert (tmp_path / "conf.d" / "20-braze.toml").is_file()


def test_a_unit_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "relay.service").write_text("mine")
    assert run("init", tmp_path / "conf.d", "--unit-file", tmp_path / "relay.service").exit_code == 0
    assert (tmp_path / "relay.service").read_text() == "mine"
    assert run("init", tmp_path / "conf.d", "--unit-file", tmp_path / "relay.service").exit_code == 1


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    answer = run("init", tmp_path / "file" / "conf.d")
    assert (answer.exit_code, answer.output) == (1, answer.stderr)
    assert "Not a directory" in answer.stderr


STARTERS = {
    "connector": (
        "team_chat",
        '[connector.team_chat]\ntype = "team_chat"\nurl = "https://host.example/"\ntoken = { env = "PATH" }\n',
    ),
    "source": ("team_hook", '[source.team_hook]\ntype = "team_hook"\npath = "/hook"\nsecret = { env = "PATH" }\n'),
    "filter": (
        "order_items",
        '[filter.order_items]\ntype = "order_items"\n[connector.out]\ntype = "stdout"\nfilters = ["order_items"]\n',
    ),
    "alert": (
        "team_pager",
        '[alert.team_pager]\ntype = "team_pager"\nurl = "https://host.example/"\nkey = { env = "PATH" }\n',
    ),
}
"""By what `relay new` writes: a name, and a configuration that uses it."""


def test_new_plugins_pass_their_tests(tmp_path: Path) -> None:
    for kind, (name, _) in STARTERS.items():
        assert run("new", kind, name, tmp_path).exit_code == 0
        assert run("new", kind, f"{name}_2", tmp_path, "--package").exit_code == 0
    tests = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "--asyncio-mode=auto", "."]
    modules = os.pathsep.join(str(folder) for folder in tmp_path.glob("relay-*"))
    environ = {**os.environ, "PYTHONPATH": modules}
    result = subprocess.run(tests, cwd=tmp_path, env=environ, check=False, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout
    passed = Counter(re.findall(r"^PASSED (?:relay-[\w-]+/tests/)?test_(\w+)\.py::", result.stdout, re.MULTILINE))
    assert passed.keys() == {of for name, _ in STARTERS.values() for of in (name, f"{name}_2")}
    assert (passed["team_chat"] >= 6, passed["team_hook"]) == (True, 2), passed


@pytest.mark.parametrize("kind", STARTERS)
def test_a_new_plugin_can_be_configured(tmp_path: Path, kind: str) -> None:
    name, table = STARTERS[kind]
    assert run("new", kind, name, tmp_path / "plugins").exit_code == 0
    listed = run("plugins", "--plugins", tmp_path / "plugins").output
    assert f"{kind} {name}" in listed
    assert "BROKEN" not in listed
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "new.toml").write_text(table)
    answer = run("check", tmp_path / "conf.d", "--plugins", tmp_path / "plugins")
    assert answer.exit_code == 0, answer.output
    assert f"1 {'connector' if kind == 'filter' else kind}" in answer.output
    assert "everybody who reaches relay may send" not in answer.output


def test_a_new_plugin_says_what_to_do_next(tmp_path: Path) -> None:
    told = run("new", "connector", "team_chat", tmp_path).output
    steps = ["-m pytest --asyncio-mode=auto", f"cp {tmp_path}/team_chat.py /etc/relay/plugins/", "restart relay"]
    assert [step for step in steps if step not in told] == []


def test_a_new_plugin_describes_itself_and_its_settings(tmp_path: Path) -> None:
    assert run("new", "connector", "team_chat", tmp_path).exit_code == 0
    told = run("add", "--plugins", tmp_path, "connector", "team_chat", "--help").output
    said = ["Sends the type and the user of each event", "URL that gets the events.", "Token that the destination"]
    assert [words for words in said if words not in told] == []


def test_a_new_plugin_has_no_built_in_name(tmp_path: Path) -> None:
    assert run("new", "filter", "redact", tmp_path).exit_code == 2
    assert run("new", "alert", "slack", tmp_path).exit_code == 2


def test_a_new_package_is_whole_and_says_what_to_do_next(tmp_path: Path) -> None:
    told = run("new", "source", "team_hook", tmp_path, "--package").output
    files = {"pyproject.toml", "README.md", "relay_team_hook.py", "tests/test_team_hook.py"}
    package = tmp_path / "relay-team-hook"
    assert {str(Path(name).relative_to(package)) for name in contents(package)} == files
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    assert (project["name"], project["entry-points"]["relay"]) == ("relay-team-hook", {"team_hook": "relay_team_hook"})
    assert f"pip install {package}\n" in told
    lines = (package / "README.md").read_text().partition("conf.d:")[2].splitlines()
    table = tomllib.loads("\n".join(line for line in lines if line.startswith("    ")).partition("    python")[0])
    settings = {"type": "team_hook", "path": "/team_hook", "secret": {"credential": "team_hook-secret"}}
    assert table == {"source": {"team_hook": settings}}
    (package / "README.md").write_text("mine")
    assert run("new", "source", "team_hook", tmp_path, "--package").exit_code == 1
    assert (package / "README.md").read_text() == "mine"


def test_pip_is_told_a_path_of_a_new_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = run("new", "filter", "shop", "--package").output
    assert f"pip install {tmp_path}/relay-shop\n" in told  # a name alone is that of a package on PyPI to pip


def test_new_connector_is_another_name_of_the_command(tmp_path: Path) -> None:
    assert run("new-connector", "team_chat", tmp_path).exit_code == 0
    assert {*contents(tmp_path)} == {str(tmp_path / "team_chat.py"), str(tmp_path / "test_team_chat.py")}
    assert "new-connector" not in run("--help").output


def test_show_has_the_settings_of_a_type_of_anybody(tmp_path: Path) -> None:
    assert run("new", "connector", "team_chat", tmp_path).exit_code == 0
    told = run("plugins", "show", "team_chat", "--plugins", tmp_path).output
    assert told == run("plugins", "--plugins", tmp_path, "show", "team_chat").output
    head, own, common = re.split(r"\n\n(?:Its own settings|Settings of every connector):\n", told)
    assert head.splitlines()[0] == f"connector team_chat, of plugin team_chat ({tmp_path}/team_chat.py)"
    assert "Sends the type and the user of each event to a URL." in head
    assert "  url (required)\n    URL that gets the events.\n" in own
    assert '  batch = { events = 100, size = "1MiB", ' in common
    (shown,) = json.loads(run("plugins", "show", "file", "--json").output)
    assert (shown["kind"], shown["missing"], "path" in shown["schema"]["properties"]) == ("connector", "", True)


def test_show_of_a_type_that_nobody_has_names_the_closest(tmp_path: Path) -> None:
    (tmp_path / "lake.py").write_text("1 / 0")
    answer = run("plugins", "show", "fiel", "--plugins", tmp_path)
    assert answer.exit_code == 1
    why = "plugin lake is broken: ZeroDivisionError: division by zero"
    assert answer.stderr == f"Error: there is no type fiel; did you mean file?; {why}\n"
    (tmp_path / "lake.py").unlink()
    answer = run("plugins", "show", "chat", "--plugins", tmp_path)
    where = f"plugins are looked for in {tmp_path} (--plugins)"
    assert answer.stderr == f"Error: there is no type chat; {where}\n"


def test_a_new_connector_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_chat.py").write_text("mine")
    answer = run("new", "connector", "chat", tmp_path)
    assert (answer.exit_code, [*contents(tmp_path).values()]) == (1, [b"mine"])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Chat", "a name is made of"),
        ("../chat", "a name is made of"),
        ("class", "a name is made of"),
        ("heap", "there is a connector type heap already"),
        ("json", "there is a Python module json already"),
        ("relay", "there is a Python module relay already"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    """Of a source by the same function."""
    answer = run("new", "connector", name, tmp_path)
    assert (answer.exit_code, contents(tmp_path)) == (2, {})
    assert reason in answer.stderr
