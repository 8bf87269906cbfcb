"""A filter written wrong costs its own lane something, and nobody else.

Looked at: what it returns, open that fails, hangs and is deaf, close, a slow apply, a stop meanwhile, two connectors
with one filter, check, trace, status, audit. The same of connectors and sources: test_unruly_plugins, test_deaf_*.
"""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from relay.cli.main import relay as cli
from relay.testing import Destination, make_event
from tests.daemon import Daemon

PLUGIN = """
import asyncio, time
from relay.api import Connector, Event, Filter, FilterSettings, Kind

class Sink(Connector, type="sink"):
    async def deliver(self, batch):
        self.log.info("took", types=sorted({event.type for event in batch}))
        time.sleep(0.12 if self.name == "blocking" else 0)

class Slow(Sink, type="slow_key"):
    notice = property(lambda self: time.sleep(0.12) or "slow", lambda self, value: None)

    def key(self, event):
        time.sleep(0.12)

class Wrong(Filter, type="wrong"):
    class Settings(FilterSettings):
        what: str

    def apply(self, event):
        match self.settings.what:
            case "text":
                return "x"
            case "endless":
                return (event for _ in iter(int, 1))
            case "other":
                return Event(event.body, event.kind, event.offset + 1, event.received)
            case "stranger":
                return Event(event.body, Kind("", "relay.erased"), event.offset, event.received)
            case "odd":
                return event.with_data({"id": {1}})
            case "broken":
                return event.with_body(b'{"a":1},{"b":2}')
            case "many":
                return [event] * 1_000_000
            case "large":
                return event.with_data({"a": "x" * (17 << 20)})

class Unready(Filter, type="unready"):
    class Settings(FilterSettings):
        what: str

    tries = 0

    async def open(self):
        self.tries += 1
        if self.settings.what == "fails" and self.tries == 1:
            raise LookupError("no table yet")
        while self.settings.what != "fails":
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if self.settings.what == "hangs":
                    raise

    def apply(self, event):
        return event

class Sluggish(Filter, type="sluggish"):
    def __init__(self, name, settings):
        super().__init__(name, settings)
        time.sleep(0.12)

    def apply(self, event):
        return event

class Items(Filter, type="items"):
    async def open(self):
        self.prices = await self.run_blocking((self.folder / "prices").read_text)
        self.seen = 0
        self.log.info("prices are read")

    def apply(self, event):
        self.seen += 1
        if self.name == "slow":
            time.sleep(0.12)
        data = dict(event.data)
        items = data.pop("items", [])
        return [event.with_data(data | {"item": item, "price": self.prices}).with_type("shop.Item") for item in items]

    async def close(self):
        with (self.folder / "closed").open("a") as file:
            file.write(f"{self.name} {self.seen}\\n")
"""
SAID = {
    "text": "apply returned str, not an event, a list of events, or None",
    "endless": "apply returned generator, not an event",
    "other": "apply returned another event",
    "stranger": "apply returned an event of another source",
    "odd": "TypeError: Type is not JSON serializable: set",
    "broken": "apply returned an event that is not a JSON object",
    "many": "apply returned 1,000,000 events, at most 1,000",
    "large": "apply made the event more than 16 MiB larger",
}
HEAD = """
[source.shop]
type = "json"
path = "/shop"
[connector.healthy]
type = "http"
url = "%s"
[connector.split]
type = "http"
url = "%s"
filters = ["items"]
[connector.split_too]
type = "sink"
filters = ["items"]
[filter.items]
type = "items"
[connector.sleepy]
type = "sink"
filters = ["slow"]
[filter.slow]
type = "items"
[connector.blocking]
type = "sink"
filters = ["sluggish"]
[connector.slow_key]
type = "slow_key"
[filter.sluggish]
type = "sluggish"
"""
TABLES = """
[filter.%(what)s]
type = "%(type)s"
what = "%(what)s"
open_timeout = "300ms"
[connector.with_%(what)s]
type = "sink"
filters = ["%(what)s"]
"""


def orders(count: int) -> list[bytes]:
    return [make_event("shop.Order")[:-1] + b',"items":["a%d","b%d"]}' % (n, n) for n in range(count)]


async def run(daemon: Daemon, *words: str) -> Result:
    """Run a command in a thread, as it may want an answer of what runs here."""
    where = ["--state", str(daemon.state), *(() if words[0] == "status" else ("--conf", str(daemon.conf)))]
    return await asyncio.to_thread(CliRunner().invoke, cli, [*words, *where])


async def test_a_filter_written_wrong_costs_its_own_lane_alone(daemon: Daemon) -> None:
    (daemon.plugins / "unruly.py").write_text(PLUGIN)
    daemon.state.mkdir()
    (daemon.state / "prices").write_text("12")
    async with Destination() as healthy, Destination() as split:
        tables = [TABLES % {"type": "wrong", "what": what} for what in SAID]
        tables += [TABLES % {"type": "unready", "what": what} for what in ("fails", "hangs", "deaf")]
        daemon.configure("10-all", HEAD % (healthy.url, split.url) + "".join(tables))
        await daemon.start()
        sent = orders(5)
        assert (await daemon.post(b"[%s]" % b",".join(sent), "/shop"))[0] == 202
        await healthy.received(5, timeout=20)
        assert sorted(healthy.bodies()) == sorted(sent)
        ids = [json.loads(body)["id"] for body in sent]
        await assert_split_events_have_ids_of_their_own(daemon, split, ids)
        await assert_wrong_results_are_parked(daemon)
        await assert_open_that_fails_holds_its_lane(daemon)
        assert_slow_calls_are_named(daemon)
        assert [line["filter"] for line in daemon.logged("prices are read")].count("items") == 2
        await assert_trace_and_audit_know_the_filters(daemon, ids[0])
        assert await daemon.stop() == 0
        assert sorted((daemon.state / "closed").read_text().splitlines()) == ["items 5", "items 5", "slow 5"]


async def assert_split_events_have_ids_of_their_own(daemon: Daemon, split: Destination, ids: list[str]) -> None:
    """See two events for each, at both connectors that have this filter."""
    await split.received(10, timeout=20)
    found = {event["item"]: event["id"] for event in split.events()}
    assert found == {f"a{n}": one for n, one in enumerate(ids)} | {f"b{n}": f"{one}-2" for n, one in enumerate(ids)}
    assert {event["price"] for event in split.events()} == {"12"}
    took = await daemon.until(
        lambda: [line for line in daemon.logged("took") if line["connector"] == "split_too"], bool
    )
    assert took[0]["types"] == ["shop.Item"]


async def assert_wrong_results_are_parked(daemon: Daemon) -> None:
    found = await daemon.until(daemon.parked, lambda seen: len(seen) >= 5 * len(SAID))
    for what, reason in SAID.items():
        mine = [one for one in found if one.connector == f"with_{what}"]
        assert [(one.cause, one.offset) for one in mine] == [("filter", n) for n in range(5)]
        assert all(one.reason.startswith(f"filter {what}: {reason}") for one in mine)


async def assert_open_that_fails_holds_its_lane(daemon: Daemon) -> None:
    """See a filter open at the second try, and others that never do; the status has both."""
    await daemon.settled("with_fails", 5, within=40)
    told = {
        line["filter"]: line["reason"]
        for line in daemon.logged("filter cannot be opened, tried again")
        if line["connector"] == f"with_{line['filter']}"
    }
    late = "it was not ready within 0.3s (open_timeout)"
    assert told == {"fails": "LookupError: no table yet", "hangs": late, "deaf": late}
    assert daemon.logged("filter is open")
    lanes = {one["connector"]: one for one in json.loads((await run(daemon, "status", "--json")).output)["lanes"]}
    assert lanes["with_hangs"]["last_error"]["reason"] == f"cannot be opened: filter hangs: {late}"
    assert (lanes["with_hangs"]["pending"], lanes["healthy"]["state"]) == (5, "working")


def assert_slow_calls_are_named(daemon: Daemon) -> None:
    blocked = daemon.logged("a plugin held up relay")
    calls = {(line.get("filter") or line.get("connector"), line["call"]) for line in blocked}
    assert {("slow", "apply"), ("blocking", "deliver"), ("sluggish", "__init__")} <= calls
    assert {("slow_key", "key"), ("slow_key", "notice")} <= calls


async def assert_trace_and_audit_know_the_filters(daemon: Daemon, event: str) -> None:
    traced = json.loads((await run(daemon, "trace", event, "--json", "--plugins", str(daemon.plugins))).output)
    ways = {one["connector"]: one for one in traced["journal"][0]["connectors"]}
    assert ways["split"]["filters"] == "cannot be known from items, which only a running connector has open"
    assert ways["with_text"]["state"].startswith("parked (filter: filter text: ")
    audit = await run(daemon, "audit")
    assert audit.exit_code == 0, audit.output


@pytest.mark.parametrize("what", ["hangs", "deaf"])
async def test_a_stop_ends_a_filter_that_does_not_get_ready(daemon: Daemon, what: str) -> None:
    """Before any event came, and while the time for `open` is far from over."""
    (daemon.plugins / "unruly.py").write_text(PLUGIN)
    tables = (TABLES % {"type": "unready", "what": what}).replace("300ms", "1h")
    daemon.configure("10-all", '[source.shop]\ntype = "json"\npath = "/shop"\n' + tables)
    await daemon.start()
    assert (await daemon.post(orders(1)[0], "/shop"))[0] == 202
    assert await daemon.stop() == 0


async def test_a_broken_lookup_file_at_the_start_holds_only_its_connector(daemon: Daemon, tmp_path: Path) -> None:
    """relay starts, the healthy connector delivers, and the other one delivers once the file is mended."""
    file = tmp_path / "teams.csv"
    file.write_text("id,team\nc-1,blue\nc-2")
    where = f'type = "file"\npath = "{tmp_path}/'
    lookup = f'type = "lookup"\nfile = "{file}"\nkey = "item"\nfields = {{ team = "team" }}\n'
    daemon.configure(
        "10-all",
        '[source.shop]\ntype = "json"\npath = "/shop"\n'
        f'[connector.healthy]\n{where}healthy"\n'
        f'[connector.waiting]\n{where}waiting"\nfilters = ["teams"]\n[filter.teams]\n{lookup}',
    )
    fault = f"{file}:3: has 1 values, and the first line has 2 names"
    checked = await run(daemon, "check")
    assert (checked.exit_code, fault in checked.output) == (0, True)
    await daemon.start()
    assert (await daemon.post(orders(1)[0], "/shop"))[0] == 202
    await daemon.settled("healthy", 1)
    (said,) = await daemon.until(lambda: daemon.logged("filter cannot be opened, tried again"), bool)
    assert (said["connector"], said["filter"], said["reason"]) == ("waiting", "teams", fault)
    assert "exception" not in said
    file.write_text("id,team\nc-1,blue\n")
    await daemon.settled("waiting", 1, within=40)
