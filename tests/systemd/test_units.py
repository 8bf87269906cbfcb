"""systemd understands what is shipped for it, and the unit gives relay no more rights than it needs."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from relay.cli.commands.doctor.unit import read_service_settings
from relay.console.process import NICE
from relay.state import DATABASE, WORKERS

SHIPPED = Path(__file__).parents[2] / "systemd"
UNITS = ("relay.service", "relay.socket", "relay-console.service")
DROP_INS = {
    "none": None,
    "static-user": "static-user/relay.service.conf",
    "operators": "operators/relay.service.conf",
    "notify-reload": "notify-reload.conf",
}
pytestmark = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")


def said(command: str, *arguments: str) -> tuple[int, str]:
    result = subprocess.run([command, *arguments], check=False, capture_output=True, text=True)
    return result.returncode, result.stderr


def systemd_version() -> int:
    printed = subprocess.run(["systemd-analyze", "--version"], check=True, capture_output=True, text=True).stdout
    return int(printed.split()[1])


@pytest.fixture
def units(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The units as they would lie in a folder of systemd, with a drop-in, and a program that exists."""
    for name in UNITS:
        text = (SHIPPED / name).read_text()
        (tmp_path / name).write_text(re.sub(r"^(Exec\w+)=\S+", rf"\1={sys.executable}", text, flags=re.MULTILINE))
    if drop_in := DROP_INS[request.param]:
        for name in ("relay.service", "relay-console.service"):
            folder = tmp_path / f"{name}.d"
            folder.mkdir()
            (folder / "drop-in.conf").write_text((SHIPPED / "examples" / drop_in).read_text())
    return tmp_path


@pytest.mark.parametrize("units", ["none", "static-user", "operators"], indirect=True)
def test_the_units_have_no_mistake(units: Path) -> None:
    paths = [str(units / name) for name in UNITS]
    assert said("systemd-analyze", "verify", "--man=no", *paths) == (0, "")


@pytest.mark.parametrize("units", ["notify-reload"], indirect=True)
def test_systemds_that_know_notify_reload_may_wait_for_a_reload_themselves(units: Path) -> None:
    unknown = [] if systemd_version() >= 253 else ["Failed to parse service type, ignoring: notify-reload"]
    _, errors = said("systemd-analyze", "verify", "--man=no", str(units / "relay.service"))
    assert [line.split(": ", 1)[1] for line in errors.splitlines()] == unknown


def test_the_unit_has_room_for_the_threads_of_all_workers() -> None:
    (tasks,) = re.findall(r"^TasksMax=(\d+)$", (SHIPPED / "relay.service").read_text(), re.MULTILINE)
    assert int(tasks) >= 64 * 12  # a thread for the loop, the writer, names, and those that files are read in


@pytest.mark.parametrize("name", ["relay.service", "relay-console.service"])
@pytest.mark.parametrize("units", ["none", "static-user", "operators"], indirect=True)
def test_the_unit_is_locked_down(units: Path, name: str) -> None:
    code, _ = said("systemd-analyze", "security", "--offline=true", "--threshold=15", str(units / name))
    assert code == 0


def test_the_page_for_plugins_names_directives_of_the_unit() -> None:
    page = (SHIPPED.parent / "docs" / "plugins" / "packaging.md").read_text()
    named = re.findall(
        r"`([A-Z]\w+=[^`]*)`", page.partition("## What the systemd unit forbids")[2].partition("|\n\n")[0]
    )
    assert len(named) == 10
    assert {*named} <= {*(SHIPPED / "relay.service").read_text().splitlines()}


def test_the_console_has_the_user_and_state_folder_of_relay() -> None:
    relay, console = (
        read_service_settings((SHIPPED / name).read_text()) for name in ("relay.service", "relay-console.service")
    )
    for setting in ("DynamicUser", "User", "StateDirectory", "StateDirectoryMode", "UMask"):
        assert relay[setting] == console[setting]
    events = {f"-/var/lib/relay/{name}" for name in ("journal", "stores", DATABASE, WORKERS)}
    assert events <= {*console["InaccessiblePaths"]}
    assert console["Nice"] == [str(NICE)]  # a process may not set its own priority there
    # systemd removes such a folder when one of its units stops.
    assert not {*relay["RuntimeDirectory"]} & {*console["RuntimeDirectory"]}


def test_the_static_user_and_its_folder_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    static = SHIPPED / "examples" / "static-user"
    assert said("systemd-sysusers", f"--root={tmp_path}", str(static / "sysusers.conf"))[0] == 0
    assert "relay:" in (tmp_path / "etc" / "passwd").read_text()
    code, errors = said("systemd-tmpfiles", f"--root={tmp_path}", "--create", str(static / "tmpfiles.conf"))
    assert (code, errors) == (0, "")
    assert (tmp_path / "srv" / "relay").stat().st_mode & 0o777 == 0o750
