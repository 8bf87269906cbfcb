"""What a connector counts by itself, on relay's `/metrics`."""

import pytest

from relay.api import PluginMetrics
from tests.daemon import Daemon

PLUGIN = """
from relay.api import Connector

class Tally(Connector, type="tally"):
    async def deliver(self, batch):
        self.metrics.add("rows", len(batch))
        self.metrics.add("rows", 2)

class Own(Connector, type="own"):
    def __init__(self, *given, **more):
        super().__init__(*given, **more)
        self.metrics = {"mine": 1}

    async def deliver(self, batch):
        self.metrics["mine"] += 1
"""
TABLES = """
[metrics]
listen = ["127.0.0.1:0"]
[source.braze]
type = "currents"
path = "/currents"
[connector.tally]
type = "tally"
[connector.own]
type = "own"
"""


async def test_counters_of_a_connector_are_metrics_of_relay(daemon: Daemon) -> None:
    (daemon.plugins / "tally.py").write_text(PLUGIN)
    daemon.configure("50-tally", TABLES)
    await daemon.start()
    assert (await daemon.post(b'{"event_type": "users.canvas.Entry", "id": "1"}'))[0] == 202
    assert (await daemon.settled("tally", 1)).counts.delivered == 1
    assert (await daemon.settled("own", 1)).counts.delivered == 1
    found = await daemon.metrics()
    counted = {name: value for name, value in found.items() if name.startswith("relay_deliver_counted_total")}
    assert counted == {'relay_deliver_counted_total{connector="tally",name="rows"}': 3.0}


def test_counters_have_a_bounded_number_of_names() -> None:
    metrics = PluginMetrics()
    for number in range(60):
        metrics.add(f"type_{number}")
    assert len(metrics.counts) == 51
    assert metrics.counts["other"] == 10
    for name, number in (("Rows", 1), ("", 1), ("a" * 51, 1), ("type_1", -1)):
        with pytest.raises(ValueError, match="a counter"):
            metrics.add(name, number)
