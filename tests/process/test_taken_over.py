"""Two relays with one state folder, which the lock should have prevented: the one that was started last stays."""

import signal
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from relay.testing import Destination, make_event
from tests.daemon import Daemon
from tests.forks import Forks
from tests.process.test_lost_state import HOOK, SOURCE, post, until_status


def read_journal(daemon: Daemon) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (daemon.state / "journal").glob("*") if path.name != "lock"}


def end_lock(daemon: Daemon) -> None:
    for lock in daemon.state.rglob("lock"):
        lock.unlink()


@pytest.mark.promise(2)
async def test_a_relay_that_is_taken_over_takes_and_delivers_nothing(
    daemon: Daemon, relay_forks: Forks, tmp_path: Path
) -> None:
    later = Daemon(tmp_path / "later", relay_forks)
    later.state = daemon.state
    try:
        async with Destination() as hook:
            hook.behaviour = 503
            for one in (daemon, later):
                one.configure("10-all", SOURCE + HOOK % hook.url)
            await daemon.start()
            await post(daemon, *range(20))
            await hook.requested(1)
            end_lock(daemon)
            await later.start()
            (line,) = await daemon.until(lambda: daemon.logged("another relay has taken over"), bool, within=60)
            assert f"(process {later.pid} on " in line["reason"]
            status, answer = await daemon.post(b'{"events":[%s]}' % make_event(n=99))
            assert (status, "another relay" in answer["detail"]) == (503, True)
            async with aiohttp.request("GET", f"{daemon.url}/readyz") as ready:
                assert ready.status == 503
            hook.behaviour = 200
            await post(later, *range(20, 40))
            await later.settled("hook", 40)
            assert await later.stop() == 0
            told = await until_status(daemon, 1, "another relay has opened relay.db")
            assert "the database cannot be written" in told.stdout or "takes no events" in told.stdout
            before = read_journal(daemon)
            assert await daemon.stop() == 0
            assert read_journal(daemon) == before
            await daemon.start()
            await post(daemon, *range(40, 50))
            await daemon.settled("hook", 50)
            assert await daemon.stop() == 0
            assert {**Counter(event["properties"]["n"] for event in hook.events())} == dict.fromkeys(range(50), 1)
    finally:
        if later.is_running:
            await later.kill()


async def test_a_start_that_fails_takes_over_nothing(daemon: Daemon, relay_forks: Forks, tmp_path: Path) -> None:
    """One of the two locks is left."""
    later = Daemon(tmp_path / "later", relay_forks)
    later.state = daemon.state
    async with Destination() as hook:
        for one in (daemon, later):
            one.configure("10-all", SOURCE + HOOK % hook.url)
        await daemon.start()
        (daemon.state / "lock").unlink()
        await later.launch()
        assert await later.ended() == 1
        assert "journal is in use by another relay" in later.stderr[-1]
        await post(daemon, *range(10))
        await daemon.settled("hook", 10)
        assert (await daemon.run("status")).returncode == 0
        assert await daemon.stop() == 0


async def test_a_relay_taken_over_while_it_was_frozen_leaves_the_journal(
    daemon: Daemon, relay_forks: Forks, tmp_path: Path
) -> None:
    """As a virtual machine that is paused: what it does first when it goes on is to stop."""
    later = Daemon(tmp_path / "later", relay_forks)
    later.state = daemon.state
    try:
        for one in (daemon, later):
            one.configure("10-source", SOURCE)
        await daemon.start()
        await post(daemon, *range(3))
        daemon.signal(signal.SIGSTOP)
        end_lock(daemon)
        await later.start()
        await post(later, *range(3, 6))
        before = read_journal(daemon)
        daemon.signal(signal.SIGTERM)
        daemon.signal(signal.SIGCONT)
        assert await daemon.ended() == 0
        assert read_journal(daemon) == before
    finally:
        if later.is_running:
            await later.kill()
