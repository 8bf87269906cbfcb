"""The parts of a configuration that workers and partitions have."""

from relay.api import Connector, ConnectorSettings
from relay.config.model import Config, Configured, JournalSettings, ParkedSettings
from relay.runtime.worker import Worker, divide_by_partitions

MIB = 1 << 20


def make_config() -> Config:
    connectors = {
        name: Configured(name, Connector, ConnectorSettings(type="x", rate=rate, concurrency=concurrency))
        for name, rate, concurrency in (("quick", 100.0, 8), ("slow", 1.0, 2), ("free", 0.0, 16))
    }
    journal = JournalSettings.model_validate({"max_size": "400MiB", "memory": "64MiB"})
    return Config(connectors=connectors, journal=journal, parked=ParkedSettings.model_validate({"max_size": "100MiB"}))


def list_limits(config: Config) -> dict[str, tuple[float, int]]:
    """Return rate and concurrency of each connector."""
    return {name: (one.settings.rate, one.settings.concurrency) for name, one in config.connectors.items()}


def test_partitions_together_keep_every_limit() -> None:
    part = divide_by_partitions(make_config(), 4)
    assert list_limits(part) == {"quick": (25.0, 2), "slow": (0.25, 1), "free": (0.0, 4)}
    assert (part.journal.max_size, part.journal.memory, part.parked.max_size) == (100 * MIB, 16 * MIB, 25 * MIB)
    assert divide_by_partitions(make_config(), 0) == make_config()


def test_workers_divide_the_concurrency_unless_partitions_do() -> None:
    own, sharing = (Worker(0, 2, "", (), False, "{}", partitions) for partitions in (0, 4))
    assert list_limits(own.divide(make_config())) == {"quick": (100.0, 4), "slow": (1.0, 1), "free": (0.0, 8)}
    assert list_limits(sharing.divide(make_config())) == list_limits(make_config())
