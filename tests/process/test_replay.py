"""`relay replay` beside a real daemon: counts, delivers once more, goes on after a kill, ends when told."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.cli.main import relay as cli
from relay.state.replays import FolderReplays
from relay.store import Replay
from relay.testing import Destination, make_event
from tests.daemon import Daemon

OPEN, CLICK = "users.messages.email.Open", "users.messages.email.Click"


def relay(daemon: Daemon, *arguments: object) -> tuple[int, str]:
    """Run a command in this process, which is not the daemon's."""
    folders = ["--state", str(daemon.state), "--conf", str(daemon.conf)]
    result = CliRunner().invoke(cli, ["replay", *map(str, arguments), *folders])
    return result.exit_code, result.output


def bodies(hook: Destination) -> Counter[bytes]:
    """What arrived, and how often."""
    return Counter(request.body for request in hook.requests)


def one(daemon: Daemon) -> Replay:
    (found,) = FolderReplays(daemon.state).read()
    return found


@asynccontextmanager
async def delivered(daemon: Daemon, count: int) -> AsyncIterator[tuple[Destination, list[bytes]]]:
    """A daemon that has delivered so many events, every second one a click."""
    async with Destination() as hook:
        daemon.configure("10-source", '[source.braze]\ntype="currents"\npath="/currents"')
        daemon.configure("20-hook", f'[connector.hook]\ntype="http"\nurl="{hook.url}"\nbody="single"\nconcurrency=1')
        await daemon.start()
        events = [make_event((OPEN, CLICK)[n % 2], n=n) for n in range(count)]
        await daemon.post(b'{"events":[%s]}' % b",".join(events))
        await daemon.settled("hook", count)
        yield hook, events


@pytest.mark.parametrize("rate", ["inf", "nan", "-1", "1e300", "1e-9"])
def test_a_rate_that_no_arithmetic_stands_is_refused(tmp_path: Path, rate: str) -> None:
    """`relay replay --rate`; the settings and the admin API are asked in their own tests."""
    found = CliRunner().invoke(cli, ["replay", "--connector", "hook", "--rate", rate, "--state", str(tmp_path)])
    assert (found.exit_code, "a rate is 0, which is no limit, or from 0.000001" in found.output) == (2, True)


async def test_a_range_is_counted_first_and_then_delivered_once_more(daemon: Daemon) -> None:
    async with delivered(daemon, 20) as (hook, events):
        code, out = relay(daemon, "--connector", "hook", "--events", CLICK, "--rate", 5, "--dry-run")
        assert (code, out) == (
            0,
            "offsets 0-19: 20 events, of which hook gets 10 before its filters; about 2s at 5/s\n",
        )
        assert relay(daemon, "--connector", "hook", "--since", "2020-01-01T00:00Z", "--until", "1h")[0] == 1
        code, out = await asyncio.to_thread(relay, daemon, "--connector", "hook", "--events", CLICK, "--yes")
        assert code == 0
        assert "replay 1 of hook, offsets 0-19" in out
        assert "done; delivered 10, unselected 10" in out
        assert bodies(hook) == Counter(events) + Counter(events[1::2])
        books = daemon.ledger()["hook"]
        assert (books.accepted, books.counts.delivered, books.pending) == (20, 20, 0)
        for event, again in ((events[0], False), (events[1], True)):
            said = CliRunner().invoke(cli, ["trace", json.loads(event)["id"], "--state", str(daemon.state)]).output
            assert bool(re.search(r"^    by replay 1: sent again, asked for \S+Z, ended \S+Z$", said, re.M)) is again, (
                said
            )
        assert await daemon.stop() == 0


async def test_a_replay_continues_after_a_kill_and_does_not_slow_live_events(daemon: Daemon) -> None:
    async with delivered(daemon, 80) as (hook, events):
        code, _ = relay(daemon, "--connector", "hook", "--rate", 20, "--yes", "--detach")
        assert code == 0
        await daemon.until(lambda: one(daemon), lambda replay: 0 < replay.cursor.counts.delivered < 80)
        fresh = make_event(OPEN, fresh=True)
        await daemon.post(b'{"events":[%s]}' % fresh)
        await daemon.settled("hook", 81)
        assert one(daemon).status == "running"
        await daemon.kill()
        hook.requests.clear()
        before = one(daemon).cursor.counts.delivered
        await daemon.start()
        await daemon.until(lambda: one(daemon).status, lambda status: status == "done")
        assert one(daemon).cursor.counts.delivered == 80
        assert set(events[before:]) <= bodies(hook).keys() <= set(events)
        assert bodies(hook).total() <= 80 - before + 20
        assert daemon.ledger()["hook"].counts.delivered == 81
        assert await daemon.stop() == 0


async def test_a_replay_is_cancelled_and_listed(daemon: Daemon) -> None:
    async with delivered(daemon, 80) as (_, _):
        relay(daemon, "--connector", "hook", "--rate", 10, "--yes", "--detach")
        await daemon.until(lambda: one(daemon), lambda replay: replay.status == "running")
        code, out = CliRunner().invoke(cli, ["replay", "cancel", "1", "--state", str(daemon.state)]).exit_code, ""
        assert code == 0
        await daemon.until(lambda: daemon.logged("replay stopped"), bool)
        assert one(daemon).status == "cancelled"
        out = CliRunner().invoke(cli, ["replay", "list", "--json", "--state", str(daemon.state)]).output
        (listed,) = json.loads(out)
        assert (listed["status"], listed["connector"]) == ("cancelled", "hook")
        assert listed["delivered"] + listed["to_come"] == 80
        assert CliRunner().invoke(cli, ["replay", "cancel", "1", "--state", str(daemon.state)]).exit_code == 1
        assert await daemon.stop() == 0


async def test_events_refused_in_a_replay_are_parked_and_counted_by_the_replay(daemon: Daemon) -> None:
    async with delivered(daemon, 4) as (hook, events):
        hook.behaviour = 400
        relay(daemon, "--connector", "hook", "--yes", "--detach")
        await daemon.until(lambda: one(daemon).status, lambda status: status == "done")
        assert one(daemon).cursor.counts.parked == 4
        assert [(parked.replay, parked.body) for parked in daemon.parked()] == [(1, body) for body in events]
        state = ["--state", str(daemon.state)]
        assert CliRunner().invoke(cli, ["audit", *state, "--conf", str(daemon.conf)]).exit_code == 0
        hook.behaviour = 200
        assert CliRunner().invoke(cli, ["parked", "replay", "--connector", "hook", *state]).exit_code == 0
        await daemon.until(daemon.parked, lambda parked: not parked)
        books = daemon.ledger()["hook"]
        assert (books.counts.delivered, books.counts.parked, books.pending) == (4, 0, 0)
        trace = CliRunner().invoke(cli, ["trace", json.loads(events[0])["id"], *state, "--conf", str(daemon.conf)])
        assert "hook: wanted by" in trace.output
        assert "by replay 1: parked after 1 attempt," in trace.output
        assert await daemon.stop() == 0


async def test_an_admin_who_asks_for_nothing_possible_is_told_why(daemon: Daemon) -> None:
    async with delivered(daemon, 1):
        code, out = relay(daemon)
        assert (code, "--connector NAME" in out) == (2, True)
        code, out = relay(daemon, "--connector", "hock")
        assert (code, "there are: hook" in out) == (1, True)
        code, out = relay(daemon, "--connector", "hook", "--events", "push")
        assert (code, "there is nothing to replay" in out) == (1, True)
        assert await daemon.stop() == 0
