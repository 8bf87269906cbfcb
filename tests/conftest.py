"""Fixtures of all tests: a real relay, and real events."""

import gc
import json
import os
import sys
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.daemon import Daemon
from tests.forks import Forks, forks, remember_plugins
from tests.kafka import end_shared_cluster
from tests.missing import IN_CI
from tests.postgres import end_shared_server

SAMPLES = Path(__file__).parents[2] / "shared" / "samples" / "currents"

LONG = "RELAY_LONG" in os.environ
"""`make faults`: slow tests take their full length, instead of what suffices to see them fail."""

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # every process that a test starts would compile all of relay again
sys.dont_write_bytecode = False
EXAMPLES = int(os.environ.get("RELAY_EXAMPLES", "10"))
"""Of a property test. `make test-long` and `make faults` try more."""
settings.register_profile("busy", max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")  # how fast an example is made, or passes, says how busy the machine is
FROM_SYSTEMD = ("CREDENTIALS_DIRECTORY", "STATE_DIRECTORY", "RUNTIME_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_USEC")
for name in (*FROM_SYSTEMD, "RELAY_TOKEN"):
    os.environ.pop(name, None)  # tests depend on nothing that whoever runs them was given
# Every process would read all authorities that this machine trusts. obstore wants one at least.
os.environ["SSL_CERT_FILE"] = str(Path(__file__).with_name("authority.pem"))
os.environ.pop("SSL_CERT_DIR", None)
remember_plugins()
gc.disable()  # collecting tests makes much that stays, and hardly any garbage


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A module whose package is not installed is skipped, and fails in CI."""
    report = yield
    if IN_CI and isinstance(report.longrepr, tuple):  # the place and the reason of a skip
        report.outcome, report.longrepr = "failed", "{}:{}: {}".format(*report.longrepr)
    return report


def pytest_collection_finish() -> None:
    """Collect garbage again from here on, but look no more at what all tests share."""
    gc.freeze()
    gc.set_threshold(50_000)
    gc.enable()


def pytest_sessionfinish() -> None:
    """End what tests have started for all tests of this process."""
    end_shared_server()
    end_shared_cluster()


@pytest.fixture(scope="session")
def relay_forks() -> Iterator[Forks]:
    """The process that forks relays."""
    with forks() as running:
        yield running


@pytest.fixture
def forked_reader(relay_forks: Forks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the process forked that reads the journal for an API in this process."""
    monkeypatch.setattr("relay.admin.question_process.Popen", relay_forks.read_journal)


@pytest.fixture
async def daemon(tmp_path: Path, relay_forks: Forks) -> AsyncIterator[Daemon]:
    daemon = Daemon(tmp_path, relay_forks)
    yield daemon
    if daemon.is_running:
        await daemon.kill()


@pytest.fixture
def samples() -> list[dict[str, Any]]:
    """The real Custom HTTP sample events."""
    if not SAMPLES.is_dir():
        pytest.skip(f"the real samples are not here: {SAMPLES}")
    return [json.loads(path.read_text()) for path in sorted(SAMPLES.glob("*.json"))]
