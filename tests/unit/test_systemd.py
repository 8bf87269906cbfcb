"""What is said to a service manager, word for word, and what happens if it does not listen."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from relay import systemd
from relay.systemd import Notify, take_inherited_sockets


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    name = {"path": str(tmp_path / "notify"), "abstract": f"@relay-test-{os.getpid()}"}[request.param]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as it:
        it.bind(name.replace("@", "\0"))
        it.settimeout(30)
        yield it, name


async def test_each_state_is_told_in_systemds_words(listener: tuple[socket.socket, str]) -> None:
    it, name = listener
    notify = Notify({"NOTIFY_SOCKET": name})
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    await notify.report_reloading()
    reloading = it.recv(4096).decode().split("\n")
    assert reloading[0] == "RELOADING=1"
    assert before <= int(reloading[1].removeprefix("MONOTONIC_USEC=")) <= before + 60e6
    await notify.report_ready("all\nis well")
    assert it.recv(4096) == b"READY=1\nSTATUS=all is well"
    await notify.report_alive("fine")
    assert it.recv(4096) == b"WATCHDOG=1\nSTATUS=fine"
    await notify.report_stuck("it hangs")
    assert it.recv(4096) == b"STATUS=it hangs"
    await notify.report_stopping()
    assert it.recv(4096).startswith(b"STOPPING=1\nSTATUS=stopping")
    await notify.report_alive("fine")
    assert it.recv(4096) == b"WATCHDOG=1\nSTATUS=fine\nEXTEND_TIMEOUT_USEC=30000000"


async def test_without_a_service_manager_nothing_is_told() -> None:
    notify = Notify({})
    await notify.report_ready("")
    assert (notify.listens, notify.watchdog) == (False, None)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_counts_if_it_is_meant_for_this_process(given: dict[str, str], seconds: float | None) -> None:
    assert Notify(given).watchdog == seconds


async def test_a_missing_or_deaf_service_manager_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "SEND_S", 0.05)
    with capture_logs() as logs:
        await Notify({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).report_ready("")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
            deaf.bind(str(tmp_path / "deaf"))
            notify = Notify({"NOTIFY_SOCKET": str(tmp_path / "deaf")})
            while len(logs) < 2:
                await notify.report_alive("x" * 10_000)
    assert [line["event"] for line in logs] == ["systemd cannot be notified"] * 2
    assert logs[1]["error"] == "it does not read"


def test_sockets_that_were_passed_to_another_process_are_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDS", "5")
    assert take_inherited_sockets() == []
    assert "LISTEN_FDS" not in os.environ
