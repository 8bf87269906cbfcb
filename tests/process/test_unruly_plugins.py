"""Whatever a plugin raises is told as its fault, and relay goes on.

Looked at beside it: the keys of events, what a source remembers, what is made or checked at a reload.
"""

import asyncio

import msgspec
from click.testing import CliRunner

from relay.cli.main import relay as cli
from relay.status.model import LaneStatus, Status
from relay.testing import Destination, make_event
from tests.daemon import Daemon
from tests.process.tables import DEAF, HOOK

HEAD = """
import asyncio, sys
from relay.api import Connector, ConnectorSettings, Filter, FilterSettings, Source, SourceSettings

class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no text")
"""
UNRULY = """
def do(what):
    if what == "mute":
        raise Mute
    if what == "exit":
        sys.exit(3)
    if what == "group":
        raise BaseExceptionGroup("several", [SystemExit(2)])
    if what == "interrupt":
        raise KeyboardInterrupt
    if what == "cancel":
        raise asyncio.CancelledError
    if what == "close":
        raise GeneratorExit
    if what == "long":
        raise ValueError("E" * 5_000_000)

class Unruly(Connector, type="unruly"):
    class Settings(ConnectorSettings):
        at: str
        what: str

    def do(self, at):
        if at == self.settings.at:
            do(self.settings.what)

    async def open(self):
        self.do("open")
        if self.settings.what == "deaf" and self.settings.at == "open":
            await deaf()

    async def deliver(self, batch):
        self.do("deliver")

    async def erase(self, users):
        self.do("erase")

    async def probe(self):
        self.do("probe")

    async def close(self):
        self.do("close")
        if self.settings.what == "deaf":
            await deaf()

class Keyed(Unruly, type="keyed"):
    def key(self, event):
        self.do("key")

class Sieve(Filter, type="sieve"):
    class Settings(FilterSettings):
        what: str

    def apply(self, event):
        do(self.settings.what)

class Gate(Source, type="gate"):
    class Settings(SourceSettings):
        at: str
        what: str

    def do(self, at):
        if at == self.settings.at:
            do(self.settings.what)

    def authorize(self, request):
        self.do("authorize")

    def verify(self, request):
        self.do("verify")

    def respond(self, request):
        self.do("respond")

    def decode(self, request):
        self.do("decode")
"""
RAISED = ["mute", "exit", "group", "interrupt", "cancel", "close", "long"]
SAID = {
    "mute": "Mute: its text cannot be read",
    "exit": "SystemExit: 3 (a plugin must not raise that)",
    "group": "BaseExceptionGroup: several",
    "interrupt": "KeyboardInterrupt (a plugin must not raise that)",
    "cancel": "CancelledError (a plugin must not raise that)",
    "close": "GeneratorExit (a plugin must not raise that)",
    "long": "ValueError: EEEE",
    "deaf": "it was not ready within 0.2s (open_timeout)",
}
CONNECTOR = """
[connector.%(at)s_%(what)s]
type = "unruly"
at = "%(at)s"
what = "%(what)s"
open_timeout = "200ms"
retry = { first = "1s" }
"""
KEYED = CONNECTOR.replace('"unruly"', '"keyed"')
OTHERS = """
[filter.%(what)s]
type = "sieve"
what = "%(what)s"
[connector.filter_%(what)s]
type = "unruly"
at = ""
what = ""
filters = ["%(what)s"]
"""
GATE = """
[source.%(at)s_%(what)s]
type = "gate"
at = "%(at)s"
what = "%(what)s"
path = "/%(at)s/%(what)s"
"""
GATES = [(at, what) for at in ("authorize", "verify", "respond", "decode") for what in RAISED]


def status(daemon: Daemon) -> dict[str, LaneStatus]:
    answer = CliRunner().invoke(cli, ["status", "--json", "--state", str(daemon.state)])
    return {lane.connector: lane for lane in msgspec.json.decode(answer.output, type=Status).lanes}


async def test_whatever_a_plugin_raises_is_its_own_fault_and_relay_goes_on(daemon: Daemon) -> None:
    """Looked at: open, deliver, erase, close, probe, filters, what a sender waits for, in the loop and in a thread,
    a reload, a stop."""
    (daemon.plugins / "unruly.py").write_text(HEAD + DEAF + UNRULY)
    async with Destination() as hook:
        daemon.configure("10-all", HOOK % hook.url + '[erasure]\nafter = "1ms"\n' + unruly_tables())
        await daemon.start()
        await assert_sources_answer_500(daemon)
        assert (await daemon.post(b'{"events":[%s]}' % make_event()))[0] == 202
        await hook.received(1, timeout=20)
        await assert_open_is_tried_again(daemon)
        await assert_filters_park(daemon)
        await assert_deliver_waits_with_the_fault(daemon)
        await assert_key_costs_the_key_alone(daemon)
        await assert_erase_fails_with_the_fault(daemon)
        await assert_reload_warns_of_probes_and_logs_closes(daemon, HOOK % hook.url)
        assert not daemon.logged("log lines were dropped")
        assert (await daemon.post(b'{"events":[%s]}' % make_event()))[0] == 202
        await hook.received(2, timeout=20)
        assert await daemon.stop() == 0


def unruly_tables() -> str:
    """Return a table for each place in which a plugin raises, and for all that it raises there."""
    places = [(at, what) for at in ("open", "deliver", "erase", "close") for what in RAISED] + [("open", "deaf")]
    tables = "".join(CONNECTOR % {"at": at, "what": what} for at, what in places)
    tables += "".join(OTHERS % {"what": what} for what in RAISED)
    tables += "".join(KEYED % {"at": "key", "what": what} for what in RAISED)
    return tables + "".join(GATE % {"at": at, "what": what} for at, what in GATES)


async def assert_sources_answer_500(daemon: Daemon) -> None:
    for at, what in GATES:
        for body in (b"[]", b" " * 1_000_000):
            assert (await daemon.post(body, f"/{at}/{what}"))[0] == 500


async def assert_open_is_tried_again(daemon: Daemon) -> None:
    for what in (*RAISED, "deaf"):
        told = await daemon.until(
            lambda name=f"open_{what}": [
                line for line in daemon.logged("connector cannot be opened, tried again") if line["connector"] == name
            ],
            bool,
        )
        assert told[0]["reason"].startswith(SAID[what])
        assert len(told[0]["reason"]) <= 1000


async def assert_filters_park(daemon: Daemon) -> None:
    parked = await daemon.until(daemon.parked, lambda seen: len(seen) >= len(RAISED))
    reasons = {one.connector: one.reason for one in parked}
    for what in RAISED:
        assert SAID[what].split(" (")[0] in reasons[f"filter_{what}"]


async def assert_deliver_waits_with_the_fault(daemon: Daemon) -> None:
    lanes = await daemon.until(
        lambda: status(daemon), lambda lanes: all(lanes[f"deliver_{what}"].last_error for what in RAISED)
    )
    for what in RAISED:
        error = lanes[f"deliver_{what}"].last_error
        assert error is not None
        assert error.reason.startswith(f"bug in the connector: {SAID[what]}")
        assert lanes[f"deliver_{what}"].pending == 1


async def assert_key_costs_the_key_alone(daemon: Daemon) -> None:
    for what in RAISED:
        assert (await daemon.settled(f"key_{what}", 1)).counts.delivered == 1
        assert any(line["connector"] == f"key_{what}" for line in daemon.logged("connector gave no key"))


async def assert_erase_fails_with_the_fault(daemon: Daemon) -> None:
    asked = ["erasures", "request", "--external-id", "nobody", "--state", str(daemon.state)]
    assert (await asyncio.to_thread(CliRunner().invoke, cli, asked)).exit_code == 0
    failed = await daemon.until(
        lambda: {line["connector"]: line["reason"] for line in daemon.logged("erasing failed at the connector")},
        lambda failed: all(f"erase_{what}" in failed for what in RAISED),
    )
    for what in RAISED:
        assert failed[f"erase_{what}"].startswith(f"bug in the connector: {SAID[what]}")


async def assert_reload_warns_of_probes_and_logs_closes(daemon: Daemon, table: str) -> None:
    """Replace all connectors by some that raise when they are probed."""
    daemon.configure("10-all", table + "".join(CONNECTOR % {"at": "probe", "what": what} for what in RAISED))
    answer = await asyncio.to_thread(CliRunner().invoke, cli, ["reload", "--state", str(daemon.state)])
    assert answer.exit_code == 0
    assert [what for what in RAISED if f"warning: connector probe_{what}: " not in answer.output] == []
    for what in RAISED:
        assert any(line["connector"] == f"close_{what}" for line in daemon.logged("connector did not close"))
