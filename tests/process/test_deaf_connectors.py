"""Connectors that take no notice of being cancelled, or cancel what is not theirs: nothing of it counts as delivered,
and nobody waits for it.

Looked at beside it: the time limit, stop, reload and erasures, `close`, tasks of a connector's own, several workers.
"""

import asyncio

import msgspec
import pytest
from click.testing import CliRunner

from relay.cli.main import relay as cli
from relay.status.model import LaneStatus, Status
from relay.testing import Destination, make_event
from tests.daemon import Daemon
from tests.process.tables import HOOK

PLUGIN = """
import asyncio, sys
from relay.api import Connector, ConnectorSettings

CAUGHT = {"cancelled": asyncio.CancelledError, "all": BaseException}

async def deaf(caught):
    while True:
        try:
            await asyncio.sleep(3600)
        except CAUGHT[caught]:
            pass

class Deaf(Connector, type="deaf"):
    class Settings(ConnectorSettings):
        how: str

    async def open(self):
        if self.settings.how == "own task":
            self.own = asyncio.create_task(deaf("all"), name="own task of a connector")
            asyncio.get_running_loop().call_soon(sys.exit, 7)
            self.other = asyncio.create_task(self.leave())

    async def leave(self):
        raise SystemExit(8)

    async def deliver(self, batch):
        how = self.settings.how
        if how == "swallows":
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                return None
        if how in CAUGHT:
            await deaf(how)
        if how == "cancels itself":
            asyncio.current_task().cancel()
            await asyncio.sleep(0)
        if how == "raises it":
            raise asyncio.CancelledError
        if how == "awaits a cancelled task":
            task = asyncio.create_task(asyncio.sleep(3600))
            task.cancel()
            await task

    async def close(self):
        if self.settings.how == "close":
            await deaf("all")
"""
FORCED = "relay does not stop in time, ends as it is"
"""On a busy machine also where nothing hangs: relay has half a second for the last steps of a stop."""
HOW = ["swallows", "cancelled", "all", "cancels itself", "raises it", "awaits a cancelled task", "own task", "close"]
LATE, ODD = HOW[:3], HOW[3:6]
HEAD = HOOK.replace('"1s"', '"4s"')
DEAF = """
[connector.c%(number)d]
type = "deaf"
how = "%(how)s"
timeout = "%(timeout)s"
concurrency = 2
batch = { events = 1 }
retry = { first = "1ms", max = "50ms" }
"""


def tables(timeout: str) -> str:
    return "".join(DEAF % {"number": number, "how": how, "timeout": timeout} for number, how in enumerate(HOW))


def lanes(daemon: Daemon) -> dict[str, LaneStatus]:
    answer = CliRunner().invoke(cli, ["status", "--json", "--state", str(daemon.state)])
    found = {lane.connector: lane for lane in msgspec.json.decode(answer.output, type=Status).lanes}
    return {how: found[f"c{number}"] for number, how in enumerate(HOW)}


def told(daemon: Daemon, message: str) -> str:
    return "\n".join(str(line) for line in daemon.logged(message))


async def test_what_a_delivery_says_after_its_time_does_not_count(daemon: Daemon) -> None:
    (daemon.plugins / "deaf.py").write_text(PLUGIN)
    async with Destination() as hook:
        daemon.configure("10-all", HEAD % hook.url + tables("100ms"))
        await daemon.start()
        for _ in range(3):
            assert (await daemon.post(b'{"events":[%s]}' % make_event()))[0] == 202
        found = await daemon.until(
            lambda: lanes(daemon),
            lambda found: (
                all(sum(found[how].attempts.values()) >= 4 for how in LATE + ODD)
                and found["own task"].outcomes["delivered"] == 3
            ),
        )
        await hook.received(3, timeout=20)
        for how in LATE + ODD:
            assert (found[how].outcomes["delivered"], found[how].pending) == (0, 3), how
            made = {outcome for outcome, attempts in found[how].attempts.items() if attempts}
            assert made - {"retried"} == (set() if how in LATE else {"bug"}), how  # a busy machine may be late with any
            error = found[how].last_error
            assert error is not None
            late = error.reason.startswith("no answer in time")
            assert late if how in LATE else late or error.reason.startswith("bug in the connector: Cancelled")
        ended = "a task of a plugin tried to end relay, which goes on"
        await daemon.until(lambda: told(daemon, ended).count("SystemExit"), lambda count: count >= 2)
        await daemon.until(lambda: told(daemon, "connector raised").count("CancelledError"), lambda count: count >= 3)
        assert await daemon.stop() == 0
    if not daemon.logged(FORCED):
        assert "own task of a connector" in told(daemon, "tasks of plugins do not end, relay stops without them")


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
async def test_stop_and_reload_do_not_wait_for_a_delivery_that_ignores_cancels(daemon: Daemon, workers: int) -> None:
    (daemon.plugins / "deaf.py").write_text(PLUGIN)
    async with Destination() as hook:
        daemon.configure("10-all", HEAD % hook.url + tables("30m"))
        daemon.configure("20-workers", f"[runtime]\nworkers = {workers}\n" if workers > 1 else "")
        await daemon.start()
        assert (await daemon.post(b'{"events":[%s]}' % make_event()))[0] == 202
        await hook.received(1, timeout=20)
        if workers == 1:
            before = await daemon.until(
                lambda: lanes(daemon),
                lambda found: all(found[how].outcomes["delivered"] for how in ("own task", "close")),
            )
            daemon.configure("10-all", HEAD % hook.url + tables("40m"))
            answer = await asyncio.to_thread(CliRunner().invoke, cli, ["reload", "--state", str(daemon.state)])
            assert answer.exit_code == 0, answer.output
            after = lanes(daemon)
            for how in LATE:
                assert (before[how].pending, after[how].pending, after[how].outcomes["delivered"]) == (1, 1, 0)
        assert await daemon.stop() == 0
    if workers == 1:
        books = daemon.ledger()
        for number, how in enumerate(HOW):
            assert books[f"c{number}"].counts.delivered == (0 if how in LATE + ODD else 1), how


BLOCKS = """
import time
from pathlib import Path
from relay.api import Connector

class Blocks(Connector, type="blocks"):
    async def deliver(self, batch):
        if self.name == "deliver":
            Path({begun!r}).touch()
            time.sleep(3600)

    async def close(self):
        time.sleep(3600)
"""


@pytest.mark.parametrize(
    ("name", "workers"), [("deliver", 1), ("close", 1), pytest.param("deliver", 2, marks=pytest.mark.long)]
)
async def test_a_stop_does_not_wait_for_a_plugin_that_blocks_the_event_loop(
    daemon: Daemon, name: str, workers: int
) -> None:
    begun = daemon.conf.with_name("begun")
    (daemon.plugins / "blocks.py").write_text(BLOCKS.format(begun=str(begun)))
    async with Destination() as hook:
        daemon.configure("10-all", f'{HOOK % hook.url}[connector.{name}]\ntype = "blocks"\n'.replace('"1s"', '"2s"'))
        daemon.configure("20-workers", f"[runtime]\nworkers = {workers}\n" if workers > 1 else "")
        await daemon.start()
        assert (await daemon.post(b'{"events":[%s]}' % make_event()))[0] == 202
        await (daemon.until(begun.exists, bool) if name == "deliver" else hook.received(1, timeout=20))
        assert await daemon.stop() == 0
    killed = daemon.logged("workers do not stop, are killed") if workers > 1 else []
    assert daemon.logged(FORCED) or killed
