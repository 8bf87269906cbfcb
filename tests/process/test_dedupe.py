"""A source that leaves out duplicates, as its sender and its admin see it."""

import asyncio
import json
from collections import Counter
from typing import Any

from click.testing import CliRunner

from relay.cli.main import relay
from relay.testing import Destination, make_event
from tests.daemon import Daemon


def body_of(events: list[bytes]) -> bytes:
    return b'{"events":[%s]}' % b",".join(events)


async def start(daemon: Daemon, hook: Destination, more: str = 'dedupe = "24h"') -> None:
    daemon.configure("10-source", f'[source.braze]\ntype="currents"\npath="/currents"\n{more}')
    daemon.configure("20-hook", f'[connector.hook]\ntype="http"\nurl="{hook.url}"\nbody="single"')
    await daemon.start()


def audit(daemon: Daemon) -> dict[str, Any]:
    result = CliRunner().invoke(relay, ["audit", "--json", "--state", str(daemon.state), "--conf", str(daemon.conf)])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.output)
    return found


async def test_what_comes_twenty_times_at_once_is_delivered_once(daemon: Daemon) -> None:
    async with Destination() as hook:
        await start(daemon, hook)
        events = [make_event(n=n) for n in range(50)]
        answers = await asyncio.gather(*(daemon.post(body_of(events)) for _ in range(20)))
        assert {status for status, _ in answers} == {202}
        assert sum(answer["accepted"] for _, answer in answers) == 50
        assert sum(answer["duplicates"] for _, answer in answers) == 19 * 50
        await daemon.settled("hook", 50)
        assert Counter(request.body for request in hook.requests) == Counter(events)
        assert await daemon.stop() == 0
        assert audit(daemon)["sources"] == [{"source": "braze", "duplicates": 950, "refusals": None}]


async def test_duplicates_are_known_after_a_kill(daemon: Daemon) -> None:
    async with Destination() as hook:
        await start(daemon, hook)
        events = [make_event(n=n) for n in range(5)]
        assert (await daemon.post(body_of([*events, events[0]])))[1] == {"accepted": 5, "parked": 0, "duplicates": 1}
        await daemon.settled("hook", 5)
        await daemon.kill()
        await daemon.start()
        fresh = make_event(n=5)
        status, answer = await daemon.post(body_of([*events, fresh]))
        assert (status, answer) == (202, {"accepted": 1, "parked": 0, "duplicates": 5})
        assert (await daemon.post(body_of(events)))[0] == 202
        await daemon.settled("hook", 6)
        assert Counter(request.body for request in hook.requests)[fresh] == 1
        assert await daemon.stop() == 0


async def test_what_the_journal_refused_is_no_duplicate_when_it_comes_again(daemon: Daemon) -> None:
    daemon.configure("15-journal", '[journal]\nmax_size="16MiB"\nmin_free="1000000GiB"')
    event = make_event()
    async with Destination() as hook:
        await start(daemon, hook)
        assert (await daemon.post(body_of([event])))[0] == 503
        await daemon.stop()
        daemon.configure("15-journal", '[journal]\nmax_size="16MiB"')
        await daemon.start()
        assert (await daemon.post(body_of([event])))[1] == {"accepted": 1, "parked": 0, "duplicates": 0}
        assert await daemon.stop() == 0


async def test_a_damaged_file_lets_duplicates_pass_and_says_so(daemon: Daemon) -> None:
    event = make_event()
    async with Destination() as hook:
        await start(daemon, hook)
        await daemon.post(body_of([event]))
        await daemon.stop()
        (file,) = (daemon.state / "seen").glob("*.db")
        file.write_bytes(b"no database" * 1000)
        await daemon.start()
        assert (await daemon.post(body_of([event])))[1]["accepted"] == 1
        assert daemon.logged("ids of events are damaged and removed, so that duplicates of them pass")
        assert (await daemon.post(body_of([event])))[1]["duplicates"] == 1
        assert await daemon.stop() == 0
