"""What of a new configuration waits for a restart."""

from typing import Any

import pytest

from relay.config import Config, JournalSettings
from relay.proposal.changes import find_waiting

DSN = {"env": "DSN"}


@pytest.fixture(autouse=True)
def _dsn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSN", "dbname=relay")


def make_config(**given: Any) -> Config:
    """Make a configuration with these settings of a shared journal; None leaves a setting out."""
    written = {"backend": "postgres", "dsn": DSN} | given
    return Config(journal=JournalSettings(**{name: value for name, value in written.items() if value is not None}))


@pytest.mark.parametrize(
    ("given", "waiting"),
    [
        ({"schema": "other"}, ["journal.schema"]),
        ({"node": "b"}, ["journal.node"]),
        ({"partitions": 5}, ["journal.partitions"]),
        ({"lease": "20s"}, ["journal.lease"]),
        ({"backend": "embedded", "dsn": None}, ["journal.backend", "journal.dsn"]),
        ({"max_size": "20GiB", "retention": "1d", "on_full": "expire_oldest"}, []),
    ],
)
def test_the_place_of_a_shared_journal_waits_for_a_restart(given: dict[str, Any], waiting: list[str]) -> None:
    assert find_waiting(make_config(), make_config(**given)) == waiting


def test_a_dsn_with_another_password_waits_for_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    before = make_config()
    monkeypatch.setenv("DSN", "dbname=relay password=new")
    assert find_waiting(before, make_config()) == ["journal.dsn"]
