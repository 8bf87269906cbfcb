"""`relay init` and `relay new`: what they write works as it is."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import relay.cli.commands.config.init  # noqa: F401  the name leads to the command
from relay.cli.commands.doctor import service
from relay.cli.main import relay as command

init = sys.modules["relay.cli.commands.config.init"]
ROOT = Path(__file__).parents[1]


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
        monkeypatch.setattr(module, "own_command", lambda: Path("/home/me/venv/bin/relay"))
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


def test_a_new_connector_passes_its_test_and_can_be_configured(tmp_path: Path) -> None:
    assert run("new", "connector", "team_chat", tmp_path / "plugins").exit_code == 0
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--asyncio-mode=auto", "."]
    result = subprocess.run(tests, cwd=tmp_path / "plugins", check=False, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout
    assert re.search(r"\b[6-9] passed", result.stdout)
    listed = run("plugins", "--plugins", tmp_path / "plugins").output
    assert "connector team_chat" in listed
    assert "BROKEN" not in listed
    conf = tmp_path / "conf.d"
    conf.mkdir()
    (conf / "chat.toml").write_text(
        '[connector.team_chat]\ntype = "team_chat"\nurl = "https://host.example/"\ntoken = { env = "PATH" }\n'
    )
    answer = run("check", conf, "--plugins", tmp_path / "plugins")
    assert answer.exit_code == 0, answer.output
    assert "1 connector" in answer.output


def test_a_new_source_passes_its_test_and_can_be_configured(tmp_path: Path) -> None:
    assert run("new", "source", "team_hook", tmp_path / "plugins").exit_code == 0
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--asyncio-mode=auto", "."]
    result = subprocess.run(tests, cwd=tmp_path / "plugins", check=False, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout
    assert "2 passed" in result.stdout
    conf = tmp_path / "conf.d"
    conf.mkdir()
    (conf / "hook.toml").write_text(
        '[source.team_hook]\ntype = "team_hook"\npath = "/hook"\nsecret = { env = "PATH" }\n'
    )
    answer = run("check", conf, "--plugins", tmp_path / "plugins")
    assert answer.exit_code == 0, answer.output
    assert "1 source" in answer.output
    assert "everybody who reaches relay may send" not in answer.output


def test_a_new_filter_passes_its_test_and_can_be_configured(tmp_path: Path) -> None:
    assert run("new", "filter", "order_items", tmp_path / "plugins").exit_code == 0
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."]
    result = subprocess.run(tests, cwd=tmp_path / "plugins", check=False, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout
    conf = tmp_path / "conf.d"
    conf.mkdir()
    (conf / "items.toml").write_text(
        '[filter.order_items]\ntype = "order_items"\n[connector.out]\ntype = "stdout"\nfilters = ["order_items"]\n'
    )
    answer = run("check", conf, "--plugins", tmp_path / "plugins")
    assert answer.exit_code == 0, answer.output
    assert run("new", "filter", "redact", tmp_path).exit_code == 2


def test_a_new_alert_passes_its_test_and_can_be_configured(tmp_path: Path) -> None:
    assert run("new", "alert", "team_pager", tmp_path / "plugins").exit_code == 0
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--asyncio-mode=auto", "."]
    result = subprocess.run(tests, cwd=tmp_path / "plugins", check=False, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout
    conf = tmp_path / "conf.d"
    conf.mkdir()
    (conf / "pager.toml").write_text(
        '[alert.team_pager]\ntype = "team_pager"\nurl = "https://host.example/"\nkey = { env = "PATH" }\n'
    )
    answer = run("check", conf, "--plugins", tmp_path / "plugins")
    assert answer.exit_code == 0, answer.output
    assert "1 alert" in answer.output
    assert run("new", "alert", "slack", tmp_path).exit_code == 2


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
