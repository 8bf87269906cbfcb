"""A drop-in as an integrator writes it: what relay and its commands make of what it says of itself."""

import asyncio

import orjson
from click.testing import CliRunner

from relay.cli.main import relay as cli
from relay.testing import make_event
from tests.daemon import Daemon

PLUGIN = """
from relay.api import Connector, ConnectorSettings, Filter, FilterSettings

class Lake(Connector, type="lake", batch={"events": 50, "age": "100ms"}):
    async def deliver(self, batch):
        self.log.info("a batch", events=len(batch))

class Once(Filter, type="once"):
    stateful = True
    seen = None

    def apply(self, event):
        if event.type == self.seen:
            return None
        self.seen = event.type
        return event
"""
TABLES = """
[source.braze]
type = "currents"
path = "/currents"
[connector.lake]
type = "lake"
window = 20
batch = { size = "1MiB" }
[connector.once]
type = "lake"
filters = ["once", "ads"]
[filter.once]
type = "once"
[filter.ads]
type = "drop"
field = "properties.ad"
exists = true
"""


async def run(daemon: Daemon, *words: str) -> tuple[int, str, str]:
    given = [*words, "--conf", str(daemon.conf), "--plugins", str(daemon.plugins)]
    result = await asyncio.to_thread(CliRunner().invoke, cli, given)
    return result.exit_code, result.stdout, result.stderr


async def test_defaults_of_a_drop_in_hold_for_relay_and_every_command(daemon: Daemon) -> None:
    """Defaults of a batch beside what is written, a batch larger than the window, a stateful filter, commands with
    `--plugins` while relay runs and after it.

    Looked at: audit, trace, replay, journal, forget, erasures; `test_reference` sees that all take the option."""
    (daemon.plugins / "lake.py").write_text(PLUGIN)
    daemon.configure("10-all", TABLES)
    code, out, _ = await run(daemon, "check")
    said = "50 events are more than window = 20: one batch goes at a time, and comes again whole"
    assert (code, f"warning: 10-all.toml:7: connector.lake.window: {said}" in out) == (0, True)
    await daemon.start()
    events = [make_event("users.messages.email.Open", number=number) for number in range(120)]
    known = orjson.loads(events[7])["id"]
    assert (await daemon.post(b'{"events":[%s]}' % b",".join(events)))[0] == 202
    books = await daemon.settled("lake", 120)
    assert books.counts.delivered == 120
    batches = [line["events"] for line in daemon.logged("a batch") if line["connector"] == "lake"]
    assert max(batches) == 50
    assert (await daemon.settled("once", 120)).counts.filtered == 119
    where = "--state", str(daemon.state)
    told = await asyncio.to_thread(CliRunner().invoke, cli, ["status", "--json", *where])
    waits = {lane["connector"]: lane["batch_wait"] for lane in orjson.loads(told.stdout)["lanes"]}
    assert waits == {"lake": 0.1, "once": 0.1}, "so long an event is not late"
    unknown = "cannot be known from once, which goes by more than the event"
    settled = "delivered at the first attempt, or dropped by a filter"
    for runs in (True, False):
        code, out, _ = await run(daemon, "trace", known, *where)
        assert (code, f'once: wanted by "*"; {unknown}; {settled}' in out) == (0, True), out
        assert 'lake: wanted by "*"; delivered at the first attempt' in out
        code, out, error = await run(daemon, "audit", *where)
        assert (code, error) == (0, "")
        code, out, error = await run(daemon, "replay", *where, "--connector", "lake", "--dry-run")
        assert (code, "lake gets 120" in out, error) == (0, True, "")
        assert not runs or await daemon.stop() == 0
