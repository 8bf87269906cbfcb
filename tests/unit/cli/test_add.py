"""`relay add` writes a checked table into conf.d, for every type from its settings model."""

import re
import stat
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from relay.cli.main import relay
from relay.config.load import load
from relay.config.plugins.registry import Registry

module = import_module("relay.cli.commands.config.add")
SOURCE = '[source.braze]\ntype = "currents"\npath = "/currents"\n'


def add(*words: object) -> Result:
    return CliRunner().invoke(relay, ["add", *map(str, words)])


def connector(folder: Path, name: str) -> Any:
    return load([folder], Registry.discover([])).config.connectors[name].settings


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    folder = tmp_path / "conf.d"
    folder.mkdir()
    (folder / "20-braze.toml").write_text(SOURCE)
    return folder


def test_options_become_the_settings_of_a_checked_file(conf: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret")
    words = ["--endpoint", "https://heap.example/in?a=1,2", "--token-from", f"file:{tmp_path / 'token'}"]
    chosen = ["--events", "message_engagement", "--events", "users.behaviors.Purchase,!email"]
    answer = add("connector", "heap", "--conf", conf, *words, *chosen, "--batch", "{ events = 7 }", "--rate", "20")
    assert answer.exit_code == 0, answer.output
    assert (conf / "60-heap.toml").read_text() == (
        "[connector.heap]\n"
        'type = "heap"\n'
        'endpoint = "https://heap.example/in?a=1,2"\n'
        f'token = {{ file = "{tmp_path / "token"}" }}\n'
        'events = ["message_engagement", "users.behaviors.Purchase", "!email"]\n'
        "batch = { events = 7 }\n"
        "rate = 20\n"
    )
    assert connector(conf, "heap").batch.events == 7
    assert f"relay check --conf {conf}" in answer.output


def test_the_url_of_an_alert_is_a_text_or_where_it_is(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLACK", "https://hooks.slack.example/x")
    assert add("alert", "slack", "--conf", conf, "--url", "env:SLACK", "--only", "source").exit_code == 0
    written = '[alert.slack]\ntype = "slack"\nurl = { env = "SLACK" }\nonly = ["source"]\n'
    assert (conf / "80-slack.toml").read_text() == written
    assert add("alert", "webhook", "--conf", conf, "--url", "https://pager.example/", "--after", "10m").exit_code == 0
    alerts = load([conf], Registry.discover([])).config.alerts
    assert (alerts["webhook"].settings.url, alerts["webhook"].settings.after) == ("https://pager.example/", 600)  # type: ignore[attr-defined]


def test_digits_stay_text_where_the_setting_is_a_text(conf: Path) -> None:
    words = ["--mode", "api", "--app-id", "0123", "--names", '{ "users.behaviors.Purchase" = "Bought" }']
    assert add("connector", "heap", "--conf", conf, "--name", "heap-api", *words).exit_code == 0
    settings = connector(conf, "heap-api")
    assert (settings.app_id, settings.names) == ("0123", {"users.behaviors.Purchase": "Bought"})


def test_a_setting_with_another_name_gives_no_warning(conf: Path, recwarn: pytest.WarningsRecorder) -> None:
    answer = add("connector", "stdout", "--conf", conf, "--name", "late", "--from", "oldest")
    assert (answer.exit_code, [str(one.message) for one in recwarn]) == (0, [])
    assert connector(conf, "late").from_ == "oldest"


@pytest.mark.parametrize("kind", ["source", "connector", "filter"])
def test_every_type_has_its_settings_as_options(kind: str) -> None:
    """Looked at as well: types of plugins (below), `relay new connector` and `relay send --sample`, in their tests."""
    for name, plugin in Registry.discover([]).get_types(kind).items():
        told = re.sub(r"\s+", " ", add(kind, name, "--help").output)
        for setting, field in plugin.Settings.model_fields.items():
            word = (field.alias or setting).replace("_", "-")
            assert word in ("type", "enabled") or f"--{word.removesuffix('s')}" in told


def test_help_marks_the_required_settings() -> None:
    lines = re.sub(r"\s+", " ", add("connector", "s3", "--help").output)
    assert "--bucket VALUE Required. Name of the bucket." in lines
    assert lines.count("Required.") == 1


def test_a_type_in_another_case_is_suggested() -> None:
    told = CliRunner().invoke(relay, ["plugins", "show", "S3"])
    assert "there is no type S3; did you mean s3?" in told.output


def test_a_type_of_a_plugin_can_be_added(conf: Path, tmp_path: Path) -> None:
    plugins = tmp_path / "plugins"
    assert CliRunner().invoke(relay, ["new", "connector", "team_chat", str(plugins)]).exit_code == 0
    words = ["--url", "https://chat.example/", "--token-from", "env:PATH"]
    answer = add("--plugins", plugins, "connector", "team_chat", "--conf", conf, *words)
    assert answer.exit_code == 0, answer.output
    assert 'url = "https://chat.example/"' in (conf / "60-team_chat.toml").read_text()
    assert f"relay check --plugins {plugins} --conf {conf}\n" in answer.output
    assert f"restart relay with --plugins {plugins}" in answer.output
    assert "relay reload" not in answer.output


def test_a_type_without_a_description_says_what_the_command_does(tmp_path: Path) -> None:
    code = "from relay.api import *\nclass Crm(Connector, type='crm'):\n    async def deliver(self, batch): pass\n"
    (tmp_path / "crm.py").write_text(code)
    told = add("--plugins", tmp_path, "connector", "crm", "--help").output
    assert "Write a connector of the type crm into conf.d." in told
    assert "Subclass it" not in told


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--mode", "pigeon"], 78, "60-heap.toml:3: connector.heap.mode: expected 'webhook' or 'api'"),
        ([], 78, "connector.heap: endpoint is missing"),
        (["--endpoint", "https://a.example", "--filters", "none"], 78, "there is no [filter.none]"),
        (["--token-from", "s3cret"], 2, "expected credential:NAME, file:/PATH or env:NAME, never the secret itself"),
        (["--name", "../heap"], 2, "a name is made of"),
    ],
)
def test_a_mistake_is_named_and_nothing_is_written(conf: Path, words: list[str], code: int, said: str) -> None:
    answer = add("connector", "heap", "--conf", conf, *words)
    assert (answer.exit_code, [path.name for path in conf.iterdir()]) == (code, ["20-braze.toml"])
    assert said in answer.stderr
    assert "s3cret" not in answer.output


def test_nothing_is_overwritten(conf: Path) -> None:
    (conf / "60-stdout.toml").write_text("# mine\n")
    answer = add("connector", "stdout", "--conf", conf)
    assert (answer.exit_code, (conf / "60-stdout.toml").read_text()) == (1, "# mine\n")
    assert "exists already" in answer.stderr


def test_a_table_of_the_same_name_elsewhere_is_a_mistake(conf: Path) -> None:
    answer = add("source", "currents", "--name", "braze", "--conf", conf, "--path", "/other")
    assert (answer.exit_code, "already" in answer.stderr) == (1, True)
    (conf / "20-braze.toml").rename(conf / "21-mine.toml")
    answer = add("source", "currents", "--name", "braze", "--conf", conf, "--path", "/other")
    assert answer.exit_code == 78
    assert "is set already at" in answer.stderr


def test_a_token_is_made_for_its_owner_alone_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CREDENTIALS", tmp_path / "credentials")
    answer = add("source", "currents", "--name", "braze", "--conf", tmp_path / "conf.d", "--make-token")
    assert answer.exit_code == 0, answer.output
    made = tmp_path / "credentials" / "braze-token"
    assert re.fullmatch(r"[\w-]{43}\n", made.read_text())
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert made.read_text().strip() not in answer.output
    assert f"LoadCredential=braze-token:{made}" in answer.output
    assert "https://your.host/braze" in answer.output
    assert 'tokens = [{ credential = "braze-token" }]' in (tmp_path / "conf.d" / "20-braze.toml").read_text()


def test_no_token_is_left_behind_by_a_mistake_and_none_is_replaced(tmp_path: Path) -> None:
    token = tmp_path / "token"
    words = ["--conf", tmp_path / "conf.d", "--make-token", "--token-from", f"file:{token}"]
    assert add("source", "currents", *words, "--path", "no path").exit_code == 78
    assert not token.exists()
    token.write_text("mine")
    assert add("source", "currents", *words).exit_code == 1
    assert token.read_text() == "mine"


def test_a_sample_of_an_unknown_type_is_refused_with_the_nearest() -> None:
    answer = CliRunner().invoke(relay, ["send", "--sample", "users.messages.email.Opened"])
    assert answer.exit_code == 2
    assert "did you mean users.messages.email.Open?" in answer.stderr
    assert CliRunner().invoke(relay, ["send"]).exit_code == 2
