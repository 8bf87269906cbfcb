"""[alert.NAME] in conf.d: what is a mistake, with file and line, and what is not."""

import sys
from pathlib import Path

import pytest

from relay.config.load import load
from relay.config.mistake import ConfigError
from relay.config.plugins.make import find_unmade
from relay.config.plugins.registry import Registry
from relay.config.schema import make_schema

SLACK = '[alert.ops]\ntype = "slack"\nurl = "https://hooks.slack.example/services/T0/B0/x"\n'
FLOW = '[source.braze]\ntype = "currents"\npath = "/c"\nallow = ["unix"]\n[connector.heap]\ntype = "stdout"\n'
MAIL = '[alert.ops]\ntype = "email"\nhost = "mail.example"\nsender = "relay@example.com"\nto = ["ops@example.com"]\n'


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.discover(())


def loaded(folder: Path, registry: Registry, text: str):  # type: ignore[no-untyped-def]
    (folder / "80-alerts.toml").write_text(text)
    (folder / "20-flow.toml").write_text(FLOW)
    return load([folder], registry)


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (
            f'{SLACK}on = ["failing", "fialing"]\n',
            '80-alerts.toml:4: alert.ops.on[1]: there is no kind "fialing"; there are: paused, unauthorized, ',
        ),
        (f'{SLACK}only = ["haep"]\n', "80-alerts.toml:4: alert.ops.only[0]: there is no source or connector"),
        (f"{SLACK}on = []\n", "80-alerts.toml:4: alert.ops.on: must have 1 or more entries"),
        (f"{SLACK}after = 5\n", "80-alerts.toml:4: alert.ops.after: expected a duration"),
        (f'{SLACK}form = "irc"\n', "80-alerts.toml:4: alert.ops.form: expected 'slack', 'discord' or 'teams'"),
        (
            '[alert.ops]\ntype = "slak"\n',
            '80-alerts.toml:2: alert.ops.type: there is no alert type "slak"; known alert',
        ),
        ('[alert.ops]\ntype = "slack"\n', "80-alerts.toml:1: alert.ops.url: is missing"),
        (f'{MAIL}user = "relay"\n', "80-alerts.toml:6: alert.ops: user and password belong together"),
        (
            f'{MAIL}user = "relay"\npassword = {{ env = "PATH" }}\ntls = "none"\n',
            '80-alerts.toml:8: alert.ops: tls = "none" would send the password',
        ),
        ('[alert.ops]\ntype = "command"\ncommand = []\n', "80-alerts.toml:3: alert.ops.command: must have 1"),
        ('[alert.ops]\ntype = "webhook"\nurl = { env = "PATH" }\n', "80-alerts.toml:3: alert.ops: url: { env"),
        ('[alert.ops]\ntype = "webhook"\nurl = { env = "NOT_THERE_7" }\n', "80-alerts.toml:3: alert.ops.url: { env"),
    ],
)
def test_a_mistake_has_its_file_and_line(tmp_path: Path, registry: Registry, text: str, mistake: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, registry, text)
    (found,) = caught.value.mistakes
    assert str(found).startswith(mistake)


def test_alerts_that_are_good_are_made(tmp_path: Path, registry: Registry) -> None:
    chosen = 'on = ["failing", "worker_lost"]\nonly = ["heap", "source braze", "worker 1", "certificate", "alert"]\n'
    off = '[alert.off]\ntype = "command"\ncommand = ["page"]\nenabled = false\n'
    found = loaded(tmp_path, registry, f"{SLACK}{chosen}{off}")
    assert [*found.config.alerts] == ["ops"]
    assert found.disabled == ("alert.off",)
    assert (found.config.alerts["ops"].settings.after, found.config.alerts["ops"].settings.again) == (300.0, 86400.0)
    assert find_unmade(found.config, tmp_path).failures == []
    assert "alert.slack" in make_schema(registry)["$defs"]
    assert [f"{one.key}: {one.reason[:23]}" for one in found.warnings if "alert" in one.key] == [
        "alert.ops.url: whoever has it can post"
    ]


def test_email_without_its_library_is_a_mistake(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "aiosmtplib", None)
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, registry, MAIL)
    (mistake,) = caught.value.mistakes
    said = "80-alerts.toml:2: alert.ops.type: email needs aiosmtplib: pip install 'currents-relay[email]'"
    assert str(mistake) == said
