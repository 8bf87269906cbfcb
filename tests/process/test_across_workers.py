"""Several workers are one for their admins: what is asked is told of all of them, what is done is done in all."""

import asyncio
import json
import os
import re
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from relay.cli.client import require_running
from relay.cli.commands.state.erasures import KEPT
from relay.cli.main import relay as cli
from relay.state.erasure.table import FolderErasures
from relay.status.model import Status
from relay.store import Erasure, make_digest
from relay.testing import Destination, make_event
from tests.daemon import Daemon
from tests.process.test_erasure import EXTERNAL, USER, left
from tests.process.test_workers import EMAIL, batch_of, children, hook, numbers_at, send, workers

ERASES = """
from relay.api import Connector, ConnectorSettings

class Noting(Connector, type="noting"):
    class Settings(ConnectorSettings):
        pass

    async def deliver(self, batch):
        pass

    async def erase(self, users):
        with open(%r, "a") as file:
            for user in users:
                file.write(f"{self.worker} {user.user_id} {sorted(user.external_ids)}\\n")
"""


def relay(daemon: Daemon, *arguments: object, conf: bool = False) -> tuple[int, str]:
    """Run a command in this process."""
    given = ["--state", str(daemon.state), *(["--conf", str(daemon.conf)] if conf else [])]
    result = CliRunner().invoke(cli, [*map(str, arguments), *given])
    return result.exit_code, result.stdout


def seen(daemon: Daemon) -> Status:
    return msgspec.json.decode(relay(daemon, "status", "--json")[1], type=Status)


async def test_what_admins_ask_is_told_of_all_and_what_they_do_is_done_in_all(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    workers(daemon, 2)
    daemon.configure("15-metrics", '[metrics]\nlisten = "127.0.0.1:0"')
    async with Destination() as destination:
        hook(daemon, destination.url)
        await daemon.start()
        await assert_status_and_metrics_are_of_both(daemon)
        await assert_reload_is_of_both(daemon, destination)
        number = await assert_pause_and_tail_are_of_both(daemon, destination)
        await assert_killed_worker_counts_as_seen_last(daemon, number)
        assert await daemon.stop() == 0
        assert not any((tmp_path / "run").iterdir())


async def assert_status_and_metrics_are_of_both(daemon: Daemon) -> None:
    for number in range(40):
        await send(daemon, batch_of(number))
    await send(daemon, [*batch_of(40), {"nonsense": True}])
    await daemon.settled("hook", 41)
    now = await daemon.until(lambda: seen(daemon), lambda now: now.lanes[0].outcomes["delivered"] == 41)
    assert (now.sources[0].accepted, now.sources[0].unreadable, now.journal.head) == (41, 1, 41)
    assert [(one.worker, one.away) for one in now.workers] == [(0, False), (1, False)]
    assert sum(one.journal.head for one in now.workers if one.journal) == 41
    assert sum(one.events for one in now.parked) == 1
    told = await daemon.metrics()
    assert told['relay_ingest_accepted_events_total{source="braze"}'] == 41
    assert told['relay_deliver_end_to_end_seconds_count{connector="hook"}'] == 41
    assert told['relay_parked_events{cause="unreadable",connector="",source="braze"}'] == 1
    assert relay(daemon, "status")[0] == 0
    audited = await asyncio.to_thread(require_running(daemon.state).ask, "GET", "/audit")
    assert (audited["balances"], [one["worker"] for one in audited["workers"]]) == (True, [0, 1])


async def assert_reload_is_of_both(daemon: Daemon, destination: Destination) -> None:
    more = f'[connector.more]\ntype = "http"\nurl = "{destination.url}"\nevents = ["sms"]\n'
    daemon.configure("30-more", more + "rate = -1")
    assert (await asyncio.to_thread(relay, daemon, "reload"))[0] == 78
    daemon.configure("30-more", more)
    assert await asyncio.to_thread(relay, daemon, "reload") == (0, "connector more: added\n")
    assert [lane.connector for lane in seen(daemon).lanes] == ["hook", "more"]


async def assert_pause_and_tail_are_of_both(daemon: Daemon, destination: Destination) -> int:
    """Pause a lane that has 41 events, tail what comes meanwhile, and resume; return the number of all events."""
    assert relay(daemon, "pause", "hock") == (1, "")
    assert relay(daemon, "pause", "hook") == (0, "hook is paused; relay resume hook ends it\n")
    printing = asyncio.get_running_loop().create_task(
        asyncio.to_thread(relay, daemon, "tail", "--limit", 30, "--json"), name="relay tail"
    )
    number = 41
    while not printing.done():  # it takes a moment until all of them are tapped
        await send(daemon, batch_of(number))
        number += 1
    lines = [*map(json.loads, printing.result()[1].splitlines())]
    assert {line["worker"] for line in lines} == {0, 1}
    assert sorted(numbers_at(destination)) == [*range(41)]
    assert relay(daemon, "resume", "hook") == (0, "hook goes on\n")
    await daemon.settled("hook", number)
    assert sorted(numbers_at(destination)) == [*range(number)]
    return number


async def assert_killed_worker_counts_as_seen_last(daemon: Daemon, events: int) -> None:
    assert seen(daemon).journal.head == events
    os.kill(children(daemon)[1], signal.SIGKILL)
    while not (now := seen(daemon)).workers[1].away:
        await asyncio.sleep(0.01)
    assert (now.sources[0].accepted, now.journal.head) == (events, events), "as it was seen last"
    code, screen = relay(daemon, "status")
    assert (code, "worker 1: is away" in screen) == (1, True)
    now = await daemon.until(lambda: seen(daemon), lambda now: not now.workers[1].away)
    assert (now.sources[0].accepted, now.journal.head) == (events, events), "counters do not fall"
    assert (await daemon.metrics())["relay_runtime_workers_away"] == 0


@pytest.mark.long  # quicker: the test above, and tests/unit/store
async def test_commands_read_the_journals_of_all_workers_also_of_removed_ones(daemon: Daemon) -> None:
    workers(daemon, 2)
    async with Destination() as destination:
        hook(daemon, destination.url)
        await daemon.start()
        number = 20
        for each in range(number):
            await send(daemon, batch_of(each))
        await daemon.settled("hook", number)
        look_at_the_journals(daemon, number)
        code, out = await asyncio.to_thread(relay, daemon, "replay", "--connector", "hook", "--yes", conf=True)
        assert (code, out.count(": done; delivered")) == (0, 2), out
        assert Counter(numbers_at(destination)) == Counter([*range(number)] * 2)
        assert await daemon.stop() == 0
        await fewer(daemon, destination, number)


@pytest.mark.long
async def test_a_removed_worker_counts_with_its_past_work_only(daemon: Daemon) -> None:
    workers(daemon, 2)
    daemon.configure("15-metrics", '[metrics]\nlisten = "127.0.0.1:0"')
    async with Destination() as destination:
        destination.behaviour = 503
        hook(daemon, destination.url)
        await daemon.start()
        for number in range(40):
            await send(daemon, batch_of(number))
        assert await daemon.stop() == 0
        workers(daemon, 1)
        await daemon.start()
        await daemon.until(
            lambda: seen(daemon),
            lambda now: (now.lanes[0].state, now.lanes[0].pending, len(now.workers)) == ("failing", 40, 2),
        )
        assert [one.only_drains for one in seen(daemon).workers] == [False, True]
        destination.behaviour = 200
        await daemon.settled("hook", 40)
        now = await daemon.until(lambda: seen(daemon), lambda now: len(now.workers) == 1)
        assert_all_is_delivered(now, await daemon.metrics())
        stopped = [line["worker"] for line in daemon.logged("worker stopped")]
        assert (stopped.count(1), len(daemon.logged("relay stopped"))) == (2, 1), "once when all of relay stopped"
        hook_file = daemon.conf / "20-hook.toml"
        hook_file.rename(daemon.conf / "20-hook.off")
        assert (await asyncio.to_thread(relay, daemon, "reload"))[1] == "connector hook: removed\n"
        assert seen(daemon).lanes == []
        (daemon.conf / "20-hook.off").rename(hook_file)
        assert (await asyncio.to_thread(relay, daemon, "reload"))[1] == "connector hook: added\n"
        assert seen(daemon).lanes[0].outcomes["delivered"] == 40
        assert await daemon.stop() == 0

        await daemon.start()
        now = await daemon.until(lambda: seen(daemon), lambda now: now.lanes[0].state == "working")
        assert now.workers == [], "one process is enough"
        assert_all_is_delivered(now, await daemon.metrics())
        assert await daemon.stop() == 0


def assert_all_is_delivered(now: Status, told: dict[str, float]) -> None:
    """Events that were accepted and delivered by two workers, of which one has ended."""
    (lane,) = now.lanes
    assert (lane.state, lane.pending, lane.oldest_pending, lane.accepted) == ("working", 0, None, 40)
    assert (lane.outcomes["delivered"], now.journal.head) == (40, 40)
    assert now.memory < 250 << 20, "the supervisor's and that of one worker"
    assert told['relay_deliver_pending_events{connector="hook"}'] == 0
    assert told['relay_deliver_lane_state{connector="hook",state="working"}'] == 1
    assert told['relay_deliver_events_total{connector="hook",outcome="delivered"}'] == 40
    assert told["relay_journal_accepted_events_total"] == 40


async def test_what_a_worker_logs_has_its_number_and_what_all_do_is_logged_once(daemon: Daemon) -> None:
    workers(daemon, 2)
    async with Destination() as destination:
        hook(daemon, destination.url)
        await daemon.start()
        before = len(daemon.logs)
        daemon.configure("30-more", f'[connector.more]\ntype = "http"\nurl = "{destination.url}"')
        daemon.signal(signal.SIGHUP)
        (done,) = await daemon.until(lambda: daemon.logged("configuration reloaded"), bool)
        assert (done["changes"], "worker" in done) == (["connector more: added"], False)
        for name in ("hock", "hack", "hock"):
            refused = len(daemon.logged("configuration not reloaded, the old one goes on"))
            daemon.configure("30-more", f'[connector.more]\ntype = "{name}"')
            daemon.signal(signal.SIGHUP)
            found = await daemon.until(
                lambda: daemon.logged("configuration not reloaded, the old one goes on"),
                lambda found, refused=refused: len(found) > refused,
            )
            assert name in found[-1]["mistakes"][0]
        (daemon.conf / "30-more.toml").unlink()
        relay(daemon, "pause", "hook")
        paused = await daemon.until(lambda: daemon.logged("lane paused by an admin"), lambda found: len(found) == 2)
        assert {line["worker"] for line in paused} == {0, 1}
        assert await daemon.stop() == 0
    own = {"configuration reloaded", "configuration not reloaded, the old one goes on", "relay stops", "relay stopped"}
    late = daemon.logs[before:]
    assert {line["message"] for line in late if "worker" not in line} == own
    assert sorted(line["worker"] for line in late if line["message"] == "worker stopped") == [0, 1]


def look_at_the_journals(daemon: Daemon, events: int) -> None:
    """What commands say of whole journals."""
    code, out = relay(daemon, "audit", "--json", conf=True)
    found = json.loads(out)
    assert (code, found["balances"], found["head"], [one["worker"] for one in found["workers"]]) == (
        0,
        True,
        events,
        [0, 1],
    )
    assert found["connectors"][0]["delivered"] == events == sum(one["head"] for one in found["workers"])
    code, out = relay(daemon, "audit", conf=True)
    assert [line for line in out.splitlines() if "worker" in line] == ["worker 0:", "worker 1:"]
    code, out = relay(daemon, "journal", "check", "--json", conf=True)
    assert (code, json.loads(out)["ok"], len(json.loads(out)["workers"])) == (0, True, 2)
    code, out = relay(daemon, "journal", "dump", conf=True)
    dumped = [*map(json.loads, out.splitlines())]
    assert len({(line["worker"], line["offset"]) for line in dumped}) == events
    last = dumped[-1]
    code, out = relay(daemon, "trace", last["event"]["id"], conf=True)
    assert (code, out.splitlines()[0]) == (0, "worker 1:")
    assert out.splitlines()[1].startswith(f"offset {last['offset']}: {EMAIL}")
    code, out = relay(daemon, "diff", str(daemon.conf), "--json", conf=True)
    assert (code, {one["as_before"] for one in json.loads(out)["connectors"]}) == (0, {events})
    code, out = relay(daemon, "trace", "nowhere", "--json", conf=True)
    assert (code, [one["journal"] for one in json.loads(out)["workers"]]) == (1, [[], []])


async def fewer(daemon: Daemon, destination: Destination, events: int) -> None:
    """What is asked of a worker that is no longer wanted it does when relay starts, and ends."""
    workers(daemon, 1)
    code, out = relay(daemon, "replay", "--connector", "hook", "--yes", conf=True)
    assert (code, "worker 1 does not run" in out) == (0, True)
    relay(daemon, "erasures", "request", "--user-id", "nobody")
    daemon.configure("06-erasure", '[erasure]\nafter = "0s"')
    await daemon.start()
    await destination.received(3 * events)
    assert Counter(numbers_at(destination)) == Counter([*range(events)] * 3)
    (one,) = await daemon.until(lambda: FolderErasures(daemon.state).read(), lambda found: bool(found[0].done))
    assert one.workers.keys() == {0, 1}
    await daemon.until(lambda: children(daemon).keys(), lambda alive: alive == {0})
    assert await daemon.stop() == 0


def of_user(**user: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(make_event(EMAIL, user=user))
    return made


@pytest.mark.long  # quicker: test_erasure, test_shared_partitions, and tests/unit/erasure
async def test_a_user_is_erased_in_all_of_them_by_all_ids_that_one_of_them_knows(
    daemon: Daemon, tmp_path: Path
) -> None:
    (daemon.plugins / "noting.py").write_text(ERASES % str(tmp_path / "erased"))
    workers(daemon, 2)
    daemon.configure("06-erasure", '[erasure]\non = ["users.UserDeleteRequest"]\nafter = "200ms"')
    daemon.configure("20-noting", '[connector.noting]\ntype = "noting"')
    await daemon.start()
    await send(daemon, [of_user(user_id=USER, external_user_id=EXTERNAL)])  # this worker alone knows both
    for _ in range(15):
        await send(daemon, [of_user(external_user_id=EXTERNAL), of_user(user_id=USER), of_user(user_id="0" * 24)])
    await send(daemon, [{"broken": USER}, of_user(user_id=USER)])
    await daemon.settled("noting", 47)
    assert left(daemon.state)

    for user in (*(f"somebody-{number}" for number in range(6)), USER):  # to either of them
        request = make_event("users.UserDeleteRequest", user={"user_id": user})
        await send(daemon, [json.loads(request)])
    one, *others = await daemon.until(
        lambda: FolderErasures(daemon.state).read(), lambda found: len(found) == 7 and is_over(found[0])
    )
    assert [each.type for each in others] == ["users.UserDeleteRequest"] * 6
    assert left(daemon.state) == []
    assert one.workers.keys() == {0, 1}
    assert (one.events, one.parked, one.unreadable, one.type) == (33, 0, 1, "users.UserDeleteRequest")
    assert all(part.events for part in one.workers.values())
    assert {*one.digests} == {make_digest(USER), make_digest(EXTERNAL)}
    told = (tmp_path / "erased").read_text().splitlines()
    assert [line for line in told if USER in line][-1] == f"0 {USER} ['{EXTERNAL}']"
    assert all(line.startswith("0 ") for line in told), "the first one alone tells the connectors"
    out = relay(daemon, "erasures", "show", one.number)[1]
    assert len(re.findall(r"^worker \d   done; \d+ events", out, re.MULTILINE)) == 2, out
    assert relay(daemon, "erasures", "check", "--user-id", USER, conf=True) == (
        0,
        f"no events in the journal, none parked\nerasures: {one.number}\nnot looked at: {KEPT}\n",
    )
    assert relay(daemon, "erasures", "request", "--user-id", USER, "--external-id", EXTERNAL)[0] == 0
    again = await daemon.until(lambda: FolderErasures(daemon.state).read()[0], is_over)
    assert (again.number, again.type, {*again.workers}, again.events) == (8, None, {0, 1}, 0)
    assert relay(daemon, "audit", conf=True)[0] == 0
    assert await daemon.stop() == 0


def is_over(one: Erasure) -> bool:
    return one.done is not None and len(one.digests) == 2 and len(one.workers) == 2
