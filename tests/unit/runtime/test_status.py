"""What the looks at this process make of its counters."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from relay.api import Connector, ConnectorSettings, Secret, Source, SourceSettings
from relay.config.model import Config, Configured
from relay.histogram import QUICK, Histogram
from relay.runtime.partitions.status import PartitionStatusReader
from relay.runtime.secret_settings import list_secrets
from relay.store import Log


@pytest.mark.parametrize(
    ("given", "seconds", "full_in"),
    [
        ({}, 61, 90.0),
        ({}, 40, None),
        ({"refusing": "the disk is full"}, 61, None),
        ({"capacity": 50}, 61, None),
    ],
)
def test_the_journal_has_a_time_to_be_full_once_that_is_known(
    given: dict[str, Any], seconds: int, full_in: float | None
) -> None:
    journal = SimpleNamespace(
        oldest=0, head=600, size=1000, capacity=1000, refusing=None, bytes=600, failed=0, lost=0,
        syncs=Histogram(QUICK), measure_needed=lambda offset: 100,
    )  # fmt: skip
    vars(journal).update(given)
    lane = SimpleNamespace(cursor=SimpleNamespace(position=0))
    fleet: Any = SimpleNamespace(lanes=[lane], unsaved=None)
    looks = PartitionStatusReader(fleet, cast("Log", journal), 0)
    for second in range(seconds):
        looks._rates.note(second, {"events": 10 * second, "stored": 10 * second, "held": 10 * second})
    assert looks._read_journal().full_in == full_in


class TokenSource(SourceSettings):
    token: Secret


class TokenConnector(ConnectorSettings):
    token: Secret


def test_a_secret_of_two_tables_names_the_other_table() -> None:
    def secret(name: str) -> Secret:
        return Secret("file", name)

    mine = TokenSource(type="braze", path="/b", token=secret("/run/t"))
    tables = {"heap": secret("/run/t"), "other": secret("/run/o")}
    connectors = {
        name: Configured(name, Connector, TokenConnector(type="x", token=token)) for name, token in tables.items()
    }
    config = Config(sources={"braze": Configured("braze", Source, mine)}, connectors=connectors)
    assert list_secrets("source braze", mine, config) == ['token (file "/run/t"; connector heap uses it, too)']
    heap, other = (list_secrets(f"connector {name}", one.settings, config) for name, one in connectors.items())
    assert heap == ['token (file "/run/t"; source braze uses it, too)']
    assert other == ['token (file "/run/o")']
