"""`relay doctor` and the installed unit: whether relay runs, and what its user may read and write."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.cli.commands.doctor import disk, machine
from relay.cli.commands.doctor.unit import FOLDERS, Unit, read_service_settings
from relay.cli.main import relay as command

Findings = list[tuple[str, str, str, str]]
Look = Callable[..., Findings]
SYSTEMCTL = """#!/bin/sh
cat {folder}/$2.$1
"""
STARTED = {"LoadState": "loaded", "ActiveState": "active", "SubState": "running", "UnitFileState": "enabled"}
SYSTEMD = Path(__file__).parents[3] / "systemd"
SHIPPED = (SYSTEMD / "relay.service").read_text()


@pytest.fixture
def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Look:
    """Installs a unit, as systemctl tells of it, and looks at a configuration."""
    for name, quick in (("measure_latencies", [0.001] * 3), ("find_file_system", "ext4")):
        monkeypatch.setattr(disk, name, lambda *_, quick=quick: quick)
    monkeypatch.setattr(machine, "is_synchronised", lambda: True)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "systemctl").write_text(SYSTEMCTL.format(folder=tmp_path))
    (tmp_path / "bin" / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    (tmp_path / "conf.d").mkdir()

    def look(conf: str, service: str = "", states: dict[str, str] | None = None) -> Findings:
        (tmp_path / "conf.d" / "a.toml").write_text(conf)
        (tmp_path / "relay.service.show").write_text(
            "".join(f"{name}={said}\n" for name, said in (STARTED | (states or {})).items())
        )
        unit = SHIPPED.replace("/opt/relay/bin/relay run", f"/opt/relay/bin/relay run --conf {tmp_path}/conf.d")
        (tmp_path / "relay.service.cat").write_text(
            f"{unit}\n# drop-in\n[Service]\nPrivateTmp=no\nProtectHome=no\n{service}\n"
        )
        answer = CliRunner().invoke(
            command, ["doctor", "--conf", f"{tmp_path}/conf.d", "--state", f"{tmp_path}/state", "--json"]
        )
        found = json.loads(answer.stdout)["findings"]
        return [(one["level"], one["about"], one["said"], one["advice"]) for one in found]

    return look


def source(secret: str) -> str:
    return f'[source.s]\ntype = "json"\npath = "/s"\ntokens = [{secret}]\n'


def about(thing: str, findings: Findings) -> Findings:
    return [finding for finding in findings if finding[1] == thing]


@pytest.mark.parametrize(
    ("states", "level", "said"),
    [
        ({}, "ok", "relay.service is active (running) and enabled"),
        (
            {"ActiveState": "failed", "ExecMainStatus": "78"},
            "problem",
            "relay does not run: relay.service failed, exit code 78",
        ),
        (
            {"ActiveState": "activating", "SubState": "auto-restart", "ExecMainStatus": "1"},
            "problem",
            "relay does not run: relay.service failed, exit code 1",
        ),
        (
            {"ActiveState": "inactive", "SubState": "dead"},
            "warning",
            "relay does not run: relay.service is inactive (dead) and enabled",
        ),
        (
            {"ActiveState": "inactive", "SubState": "dead", "UnitFileState": "disabled"},
            "ok",
            "relay does not run: relay.service is inactive (dead) and disabled",
        ),
        ({"NeedDaemonReload": "yes"}, "warning", "relay.service has changed on disk"),
    ],
)
def test_whether_the_service_runs_is_told(look: Look, states: dict[str, str], level: str, said: str) -> None:
    assert (level, said) in [finding[::2][:2] for finding in about("service", look("", states=states))]


def test_a_unit_that_cannot_run_its_program_is_a_problem(look: Look, tmp_path: Path) -> None:
    for program, said in (
        ("/nowhere/relay", "relay.service starts /nowhere/relay, which is not there"),
        ("/root", "relay.service cannot run /root: ProtectHome=yes in relay.service hides it"),
    ):
        service = f"ProtectHome=yes\nExecStart=\nExecStart=!{program} run --conf {tmp_path}/conf.d"
        ((level, _, told, advice),) = about("program", look("", service))
        assert (level, told, "make install" in advice) == ("problem", said, True)
    assert about("program", look("", f"ExecStart=\nExecStart=/bin/sh run --conf {tmp_path}/conf.d")) == []


def test_without_a_unit_for_this_configuration_nothing_is_told(look: Look) -> None:
    secret = '{ credential = "x" }'
    for states, service in (({"LoadState": "not-found"}, ""), ({}, "ExecStart=\nExecStart=/bin/relay run")):
        found = look(source(secret), service, states)
        assert about("service", found) == []
        assert [level for level, *_ in about("secret", found)] == []


@pytest.mark.parametrize("option", ["--conf {}", "--conf={}", '"--conf={}"'])
def test_the_unit_names_its_configuration_in_any_way(option: str) -> None:
    unit = Unit(
        {}, read_service_settings(f"[Service]\nExecStart=/bin/relay run {option.format('/a/conf.d')} --state /s")
    )
    assert unit.conf == [Path("/a/conf.d")]


def test_a_credential_that_the_unit_does_not_load_is_a_problem(look: Look, tmp_path: Path) -> None:
    conf = source('{ credential = "braze-token" }')
    ((level, _, said, advice),) = about("secret", look(conf))
    assert (level, said) == ("problem", '{ credential = "braze-token" }: relay.service loads no such credential')
    assert "LoadCredential=braze-token:/etc/relay/credentials/braze-token" in advice
    line = f"LoadCredential=braze-token:{tmp_path}/token"
    ((level, _, said, _),) = about("secret", look(conf, line))
    assert (level, f"{tmp_path}/token, which relay.service loads it from, is not there" in said) == ("problem", True)
    (tmp_path / "token").write_text("s3cret")
    for loads in (line, "LoadCredentialEncrypted=braze-token:/dev/null", "SetCredential=braze-token:s3cret"):
        assert "problem" not in [level for level, *_ in about("secret", look(conf, loads))]
    assert about("secret", look(conf, f"{line}\nLoadCredential=")) != []


def test_a_file_that_the_units_user_cannot_read_is_a_problem(look: Look, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret")
    (tmp_path / "token").chmod(0o600)
    conf = source(f'{{ file = "{tmp_path}/token" }}')
    ((level, _, said, advice),) = about("secret", look(conf))
    assert level == "problem"
    assert "cannot be read by relay.service: /" in said
    assert "has the mode" in said
    assert advice.startswith("let systemd read it as root: LoadCredential=")
    assert "chmod" not in advice
    assert about("secret", look(conf, "DynamicUser=no\nUser=root")) == []


def test_a_file_of_conf_d_that_the_service_cannot_read_is_a_problem(look: Look, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    ((level, _, said, advice),) = about("file", look(source('{ env = "HOME" }')))
    assert (level, "chmod o+r" in advice) == ("problem", True)
    assert said.startswith(f"{tmp_path}/conf.d/a.toml cannot be read by relay.service: /")
    assert about("file", look(source('{ env = "HOME" }'), "DynamicUser=no\nUser=root")) == []


def test_what_this_user_may_not_look_at_is_a_warning(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(unit: Unit, what: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    for name in ("find_missing", "explain_unwritable"):
        monkeypatch.setattr(Unit, name, refused)
    found = look(
        source('{ credential = "x" }') + '[connector.c]\ntype = "file"\npath = "x"\n', "LoadCredential=x:/etc/passwd"
    )
    assert [finding[2:] for finding in about("secret", found)] == [
        ('{ credential = "x" } cannot be looked at: Permission denied', "run relay doctor as root")
    ]
    assert [level for level, *_ in about("connector c", found)] == ["ok"]


def test_a_secret_of_the_console_in_the_state_folder_is_the_services_own(
    look: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its user does not stay, and has no id that could be compared with the owner of a file."""
    monkeypatch.setitem(FOLDERS, "StateDirectory", tmp_path)
    secret = tmp_path / "relay" / "secrets" / "x"
    secret.parent.mkdir(parents=True)
    secret.write_text("pasted")
    secret.chmod(0o600)
    assert about("secret", look(source(f'{{ file = "{secret}" }}'))) == []
    moved = secret.rename(tmp_path / "x")
    assert [level for level, *_ in about("secret", look(source(f'{{ file = "{moved}" }}')))] == ["problem"]


@pytest.mark.parametrize(
    ("enabled", "loads", "problems"),
    [
        ("enabled", "", ['{ credential = "anna" }: relay-console.service loads no such credential']),
        ("enabled", "LoadCredential=anna:/etc/passwd", []),
        ("disabled", "", []),
    ],
)
def test_a_credential_of_the_console_is_a_matter_of_the_consoles_unit(
    look: Look, tmp_path: Path, enabled: str, loads: str, problems: list[str]
) -> None:
    conf = '[console.user.anna]\nmay = "look"\nsecret = { credential = "anna" }\n'
    assert about("secret", look(conf)) == []
    assert "anna" not in str(about("configuration", look(conf)))
    states = f"LoadState=loaded\nActiveState=inactive\nUnitFileState={enabled}\n"
    unit = (
        (SYSTEMD / "relay-console.service")
        .read_text()
        .replace("bin/relay console\n", f"bin/relay console --conf {tmp_path}/conf.d\n", 1)
    )
    (tmp_path / "relay-console.service.show").write_text(states)
    (tmp_path / "relay-console.service.cat").write_text(f"{unit}\n[Service]\n{loads}\n")
    found = about("secret", look(conf))
    assert [said for level, _, said, _ in found if level == "problem"] == problems
    assert all("systemctl edit relay-console:" in advice for level, _, _, advice in found if level == "problem")


def test_an_environment_variable_that_the_unit_does_not_set_is_a_problem(look: Look) -> None:
    conf = source('{ env = "HOME" }')
    assert [level for level, *_ in about("secret", look(conf))] == ["problem"]
    assert about("secret", look(conf, 'Environment="HOME=/x y"')) == []


def test_a_file_connector_needs_the_units_leave_to_write(look: Look, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    conf = f'[connector.c]\ntype = "file"\npath = "{tmp_path}/out/x.ndjson"\n'
    ((level, _, said, advice),) = about("connector c", look(conf))
    assert level == "warning"
    assert said == (
        f"{tmp_path}/out/x.ndjson cannot be written by the service: "
        "ProtectSystem=strict in relay.service makes it read-only"
    )
    assert "ReadWritePaths=" in advice
    allowed = f"ReadWritePaths={tmp_path}/out\nDynamicUser=no\nUser=root"
    assert [level for level, *_ in about("connector c", look(conf, allowed))] == ["ok"]
    ((_, _, said, _),) = about("connector c", look(conf, f"ReadWritePaths={tmp_path}/out"))
    assert "has the mode" in said  # and the user that does not stay may not write there


@pytest.mark.parametrize("folder", ["/proc/nope", "/sys"])
def test_there_are_no_files_to_be_made_among_those_of_the_kernel(look: Look, folder: str) -> None:
    ((level, _, said, advice),) = about("connector c", look(f'[connector.c]\ntype = "file"\npath = "{folder}/x"\n'))
    assert (level, f"cannot be written, for {folder}/x" in said) == ("problem", True)
    assert "ReadWritePaths" in advice
    assert "firewalls" not in advice


@pytest.mark.parametrize(
    ("service", "path", "is_allowed"),
    [
        ("", "/var/lib/relay/a", True),
        ("", "/var/log/relay/a", True),
        ("", "/run/relay/a", True),
        ("", "/var/lib/relayed/a", False),
        ("", "/home/x/a", False),
        ("", "/tmp/a", True),
        ("PrivateTmp=yes", "/tmp/a", False),
        ("ProtectSystem=full", "/usr/a", False),
        ("ProtectSystem=no", "/tmp/a", True),
    ],
)
def test_where_the_unit_may_write(service: str, path: str, is_allowed: bool) -> None:
    open_tmp = "[Service]\nPrivateTmp=no\nReadWritePaths=-/tmp\n"
    assert (
        Unit({}, read_service_settings(SHIPPED + open_tmp + service)).explain_unwritable(Path(path)) is None
    ) is is_allowed


def test_settings_of_units_add_up_as_systemd_says() -> None:
    text = """[Unit]
Description=x
[Service]
; a comment
# Environment=NO=1
Environment=A=1 \\
    "B=2 3"
ReadWritePaths=/a /b
[Install]
Environment=C=1
[Service]
ReadWritePaths=
ReadWritePaths=/c
"""
    assert read_service_settings(text) == {"Environment": ["A=1", "B=2 3"], "ReadWritePaths": ["/c"]}
