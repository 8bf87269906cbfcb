"""A relay whose store has partitions that all processes share, while other processes take and give."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from relay.store import find_partition
from relay.testing import Answer, Destination, make_event
from tests.daemon import Daemon
from tests.process.commands import ask, until_answer

PARTITIONS = 4
CONFIG = """
[metrics]
listen = "127.0.0.1:0"
[runtime]
drain = "5s"
[erasure]
after = "0s"
on = ["users.messages.email.Unsubscribe"]
[source.braze]
type = "currents"
path = "/currents"
[connector.hook]
type = "http"
url = "%s"
body = "single"
retry = { first = "10ms", max = "50ms" }
"""
RATED = """
[connector.rated]
type = "http"
url = "%s"
body = "single"
rate = 1000
"""
ALERT = """
[alert.ops]
type = "webhook"
url = { file = "%s" }
after = "0s"
"""
ORDERED = "users.behaviors.CustomEvent"
RATE = 40
UNOPENED = "partition cannot be opened, will be tried again"
CUT = "partition ends here, its deliveries under way are cut short"


TOLD_BY_ONE = {
    "away_nodes": 0,
    "held_snapshots": 0,
    "waiting_partitions": 2,
    'standbys{count="named"}': 0,
    'standbys{count="needed"}': 0,
    'standbys{count="connected"}': 0,
}
"""What the process that runs partition 0 says of all, while it reports two of four partitions."""


class Cluster:
    """A relay, and a file that says what other processes do."""

    def __init__(self, daemon: Daemon, file: Path) -> None:
        self.daemon, self._file = daemon, file
        daemon.state.mkdir()
        daemon.module = "tests.process.toy_relay"

    def play(self, **world: Any) -> None:
        """Let something happen to the store. See `tests.toy_store.shared.ToyWorld`."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps({"elsewhere": [], "taken": [], "broken": [], "away": False} | world))
        fresh.rename(self._file)

    async def start(self) -> None:
        await self.daemon.start()

    async def runs(self, *partitions: int) -> None:
        """Wait until relay runs these partitions and no others."""
        await self.daemon.until(self._find_running, lambda found: found == {*partitions})

    def _find_running(self) -> set[int]:
        running = set[int]()
        for line in self.daemon.logs:
            if line["message"] == "partition runs here":
                running.add(line["partition"])
            elif line["message"] == "partition does not run here any more":
                running.discard(line["partition"])
        return running

    async def post(self, *numbers: int, type: str = "users.messages.email.Open", user: Any = None) -> int:
        """Send a request with an event for each number; return the status of the answer."""
        body = b'{"events":[%s]}' % b",".join(make_event(type, n=n, user=user) for n in numbers)
        return (await self.daemon.post(body))[0]

    async def reported(self, good: Callable[[Any], bool]) -> Any:
        """Return the status once it is as it should be: processes report every few seconds."""
        return await until_answer(self.daemon, "status", good=good)


@pytest.fixture
def cluster(daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    file = tmp_path / "world.json"
    monkeypatch.setenv("TOY_PARTITIONS", str(PARTITIONS))
    monkeypatch.setenv("TOY_WORLD", str(file))
    return Cluster(daemon, file)


def count(hook: Destination) -> dict[int, int]:
    """Return how often each event has been accepted."""
    return {**Counter(event["properties"]["n"] for event in hook.events())}


def all_once(*numbers: int) -> Callable[[dict[int, int]], bool]:
    return lambda seen: seen == dict.fromkeys(numbers, 1)


def find_cluster_gauges(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return what a node says of itself and of the cluster, by the rest of the name."""
    prefix = "relay_cluster_"
    return {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}


async def until_exported(cluster: Cluster, gauges: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics once their gauges of the cluster are these."""
    async with asyncio.timeout(60):
        while find_cluster_gauges(metrics := await cluster.daemon.metrics()) != gauges:
            await asyncio.sleep(0.1)
    return metrics


async def test_one_process_runs_all_partitions_until_others_come(cluster: Cluster) -> None:
    async with Destination() as hook:
        cluster.daemon.configure("10-all", CONFIG % hook.url)
        await cluster.start()
        await cluster.runs(0, 1, 2, 3)
        for number in range(20):
            assert await cluster.post(number) == 202
        await cluster.daemon.until(lambda: count(hook), all_once(*range(20)))
        status = await cluster.reported(
            lambda seen: seen["journal"]["head"] == 20 and not any(one["pending"] for one in seen["lanes"])
        )
        assert status["partitions"] == [0, 1, 2, 3]
        (lane,) = status["lanes"]
        assert (lane["accepted"], lane["outcomes"]["delivered"], lane["pending"]) == (20, 20, 0)

        cluster.play(elsewhere=[1, 3])
        await cluster.runs(0, 2)
        await cluster.reported(lambda seen: seen["partitions"] == [0, 2])
        metrics = await cluster.daemon.metrics()
        assert metrics['relay_ingest_accepted_events_total{source="braze"}'] == 20
        assert metrics['relay_deliver_attempts_total{connector="hook",outcome="delivered"}'] == 20
        delivered = 'relay_deliver_events_total{connector="hook",outcome="delivered"}'
        assert (metrics[delivered], metrics["relay_journal_accepted_events_total"]) == (20, 20)
        own = {"running_partitions": 2, "unreachable_seconds": 0}
        metrics = await until_exported(cluster, own | TOLD_BY_ONE)
        assert metrics['relay_runtime_doubtful{what="journal"}'] == 0

        cluster.play(elsewhere=[0])
        await cluster.runs(1, 2, 3)
        metrics = await until_exported(cluster, {"running_partitions": 3, "unreachable_seconds": 0})
        assert 'relay_runtime_doubtful{what="journal"}' not in metrics
        cluster.play()
        await cluster.runs(0, 1, 2, 3)
        assert (await cluster.daemon.metrics())[delivered] == 20
        assert await cluster.daemon.stop() == 0
    assert cluster.daemon.list_complaints() == []


async def test_a_partition_is_given_back_once_its_delivery_has_ended(cluster: Cluster) -> None:
    async with Destination() as hook:
        cluster.daemon.configure("10-all", CONFIG % hook.url)
        await cluster.start()
        await cluster.runs(0, 1, 2, 3)
        hook.behaviour = Answer(hang=True)
        for number in range(4):
            assert await cluster.post(number) == 202
        await hook.requested(4)
        cluster.play(elsewhere=[0, 1, 2, 3])
        assert await cluster.post(4) == 202
        await cluster.daemon.until(
            lambda: cluster.daemon.logged("partition does not run here any more"), lambda ends: not ends
        )
        hook.behaviour = 200
        hook.release()
        await cluster.runs()
        cluster.play()
        await cluster.daemon.until(lambda: count(hook), all_once(*range(5)))
        assert await cluster.daemon.stop() == 0
    assert cluster.daemon.list_complaints() == []


async def test_a_delivery_beyond_the_drain_budget_does_not_keep_a_partition(cluster: Cluster) -> None:
    async with Destination() as hook:
        cluster.daemon.configure("10-all", CONFIG.replace('drain = "5s"', 'drain = "1s"') % hook.url)
        await cluster.start()
        await cluster.runs(0, 1, 2, 3)
        hook.behaviour = Answer(status=503, hang=True)
        assert await cluster.post(0) == 202
        await hook.requested(1)
        cluster.play(elsewhere=[0, 1, 2, 3])
        await cluster.runs()
        (cut,) = cluster.daemon.logged(CUT)
        assert cut["reason"] == "the drain budget is used up"
        cluster.play()
        hook.behaviour = 200
        hook.release()
        await cluster.daemon.until(lambda: count(hook), all_once(0))
        assert await cluster.daemon.stop() == 0


async def test_a_reload_changes_all_partitions_or_none(cluster: Cluster) -> None:
    async with Destination() as hook, Destination() as other:
        cluster.daemon.configure("10-all", CONFIG % hook.url)
        await cluster.start()
        await cluster.runs(0, 1, 2, 3)
        cluster.daemon.configure("20-other", RATED % "nowhere")
        assert (await cluster.daemon.run("reload")).returncode == 78
        cluster.daemon.configure("20-other", RATED % other.url)
        assert (await cluster.daemon.run("reload")).returncode == 0
        for number in range(8):
            assert await cluster.post(number) == 202
        await cluster.daemon.until(
            lambda: (count(hook), count(other)), lambda seen: all(map(all_once(*range(8)), seen))
        )
        (cluster.daemon.conf / "20-other.toml").unlink()
        cluster.play(elsewhere=[2])
        await cluster.runs(0, 1, 3)
        assert (await cluster.daemon.run("reload")).returncode == 0
        cluster.play()
        await cluster.runs(0, 1, 2, 3)
        for number in range(8, 16):
            assert await cluster.post(number) == 202
        await cluster.daemon.until(lambda: count(hook), all_once(*range(16)))
        assert len(other.requests) == 8
        assert await cluster.daemon.stop() == 0


async def test_a_lost_partition_delivers_nothing_more_and_comes_back(cluster: Cluster) -> None:
    async with Destination() as hook:
        cluster.daemon.configure("10-all", CONFIG % hook.url)
        await cluster.start()
        await cluster.runs(0, 1, 2, 3)
        hook.behaviour = Answer(status=503, hang=True)
        for number in range(4):
            assert await cluster.post(number) == 202
        await hook.requested(4)
        cluster.play(taken=[2])
        await cluster.runs(0, 1, 3)
        (lost,) = cluster.daemon.logged(CUT)
        assert (lost["partition"], lost["reason"]) == (2, "another relay has opened the books")
        hook.behaviour = 200
        hook.release()
        await cluster.daemon.until(lambda: len(count(hook)), lambda seen: seen == 3)
        cluster.play()
        await cluster.runs(0, 1, 2, 3)
        await cluster.daemon.until(lambda: count(hook), all_once(*range(4)))
        assert await cluster.daemon.stop() == 0


async def test_a_partition_that_cannot_be_opened_ends_no_other(cluster: Cluster) -> None:
    async with Destination() as hook:
        cluster.daemon.configure("10-all", CONFIG % hook.url)
        cluster.play(broken=[2])
        await cluster.start()
        await cluster.runs(0, 1, 3)
        status = await cluster.reported(lambda seen: seen["unopened"])
        assert (status["waiting_partitions"], status["unopened"]) == ([2], {"2": "ValueError: its books are torn"})
        said = "partition 2 cannot be opened, and its events wait: ValueError: its books are torn"
        assert said in (await cluster.daemon.run("status")).stdout.decode()
        cluster.play()
        await cluster.runs(0, 1, 2, 3)
        await cluster.reported(lambda seen: not seen["unopened"])
        pauses = [line["in_s"] for line in cluster.daemon.logged(UNOPENED)]
        assert pauses == [0.5 * 2**number for number in range(len(pauses))]
        assert await cluster.daemon.stop() == 0


async def test_a_process_without_a_partition_takes_events_in(cluster: Cluster) -> None:
    async with Destination() as hook:
        cluster.daemon.configure("10-all", CONFIG % hook.url)
        cluster.play(elsewhere=[0, 1, 2, 3])
        await cluster.start()
        assert await cluster.post(0, 1) == 202
        status = await cluster.reported(lambda seen: seen["sources"][0]["accepted"] == 2)
        assert (status["partitions"], status["waiting_partitions"]) == ([], [0, 1, 2, 3])
        assert (await cluster.daemon.run("pause", "hook")).returncode == 0
        assert (await cluster.daemon.run("reload")).returncode == 0
        cluster.play()
        await cluster.runs(0, 1, 2, 3)
        assert hook.requests == []
        assert (await cluster.daemon.run("resume", "hook")).returncode == 0
        await cluster.daemon.until(lambda: count(hook), all_once(0, 1))
        assert await cluster.daemon.stop() == 0
    assert cluster.daemon.list_complaints() == []


async def test_a_store_that_was_away_ends_no_process(cluster: Cluster) -> None:
    async with Destination() as hook:
        cluster.daemon.configure("10-all", CONFIG % hook.url)
        await cluster.start()
        await cluster.runs(0, 1, 2, 3)
        cluster.play(away=True)
        assert await cluster.post(0) == 503
        await cluster.runs()
        gauges = find_cluster_gauges(await cluster.daemon.metrics())
        assert gauges.pop("unreachable_seconds") > 0
        assert gauges == {"running_partitions": 0}
        cluster.play()
        await cluster.runs(0, 1, 2, 3)
        assert await cluster.post(1) == 202
        await cluster.daemon.until(lambda: count(hook), all_once(1))
        for message in (
            "partitions cannot be looked up, they go on until they are lost",
            "partitions can be looked up again",
        ):
            assert len(cluster.daemon.logged(message)) == 1
        assert await cluster.daemon.stop() == 0


async def test_only_events_of_an_order_are_all_in_the_first_partition(cluster: Cluster) -> None:
    ordered = f'order_by = "user.external_user_id"\nevents = ["{ORDERED}"]\n'
    async with Destination(400) as hook, Destination(400) as rated:
        hook.behaviour = rated.behaviour = 400
        cluster.daemon.configure("10-all", CONFIG % hook.url + ordered + RATED % rated.url)
        await cluster.start()
        await cluster.runs(0, 1, 2, 3)
        for number in range(8):
            assert await cluster.post(number, type=ORDERED, user={"external_user_id": str(number)}) == 202
            assert await cluster.post(number) == 202
        await cluster.daemon.until(lambda: (len(hook.requests), len(rated.requests)), lambda seen: seen == (8, 16))
        parked = await ask(cluster.daemon, "parked", "list", "--limit", "100")
        found = {(one["connector"], one["type"] == ORDERED): set[int]() for one in parked}
        for one in parked:
            found[one["connector"], one["type"] == ORDERED].add(find_partition(one["number"]))
        assert found == {("hook", True): {0}, ("rated", True): {0}, ("rated", False): {0, 1, 2, 3}}
        assert await cluster.daemon.stop() == 0


async def test_all_partitions_together_keep_the_rate_also_as_they_move(cluster: Cluster) -> None:
    async with Destination() as hook:
        cluster.daemon.configure("10-all", CONFIG % hook.url + f"rate = {RATE}\n")
        cluster.play(elsewhere=[*range(PARTITIONS)])
        await cluster.start()
        for partition in range(PARTITIONS):
            assert await cluster.post(*range(partition * 30, partition * 30 + 30)) == 202
        began = time.monotonic()
        cluster.play()
        while (sent := len(count(hook))) < PARTITIONS * 30:
            assert sent <= RATE * (time.monotonic() - began)  # no burst: another process may just have had its own
            await asyncio.sleep(0.01)
        cluster.play(partitions=2 * PARTITIONS, elsewhere=[*range(PARTITIONS, 2 * PARTITIONS)])
        await cluster.daemon.until(lambda: cluster.daemon.logged("limits are divided by more partitions"), bool)
        began, before = time.monotonic(), len(count(hook))
        for partition in range(PARTITIONS):
            assert await cluster.post(*range(200 + partition * 10, 210 + partition * 10)) == 202
        while (sent := len(count(hook)) - before) < 10 * PARTITIONS:
            assert sent <= RATE / 2 * (1 + time.monotonic() - began) + PARTITIONS  # a burst, and a batch
            await asyncio.sleep(0.01)
        assert await cluster.daemon.stop() == 0
    assert cluster.daemon.list_complaints() == []


async def test_an_erasure_is_noticed_in_any_partition(cluster: Cluster) -> None:
    async with Destination() as hook:
        cluster.daemon.configure("10-all", CONFIG % hook.url)
        await cluster.start()
        await cluster.runs(0, 1, 2, 3)
        for number in range(PARTITIONS):
            user = {"external_user_id": f"customer-{number}"}
            assert await cluster.post(*range(PARTITIONS), user=user) == 202
            for _ in range(number):  # so that each request comes into another partition
                assert await cluster.post(0, user=user) == 202
            assert await cluster.post(0, type="users.messages.email.Unsubscribe", user=user) == 202
        erased = await until_answer(
            *(cluster.daemon, "erasures", "list"),
            good=lambda found: [one["status"] for one in found] == ["done"] * PARTITIONS,
        )
        assert sorted(one["number"] for one in erased) == [1, 2, 3, 4]
        assert [one["removed"]["events"] for one in sorted(erased, key=lambda one: one["number"])] == [5, 6, 7, 8]
        assert await cluster.daemon.stop() == 0
    assert cluster.daemon.list_complaints() == []


def page_of(task: str, number: int) -> bytes:
    """Return one of two pages of a sync of a segment."""
    info = {"page_number": number, "total_pages": 2, "sync_task_id": task}
    users = {"add": [{"id": f"{task}-{number}"}], "remove": []}
    data = {"segment": {"id": 7, "name": "Carts"}, "sync_info": info, **users}
    return orjson.dumps({"action_type": "segment.users.sync", "data": data})


async def test_a_source_that_watches_does_so_where_the_first_partition_runs(cluster: Cluster) -> None:
    segments = '[source.segments]\ntype = "heap_segments"\npath = "/segments"\n'
    async with Destination() as hook:
        cluster.daemon.configure("10-all", CONFIG % hook.url)
        cluster.daemon.configure("20-segments", segments)
        cluster.play(elsewhere=[0])
        await cluster.start()
        await cluster.runs(1, 2, 3)
        for task in ("a", "b"):  # a second sync begins, and the first one lacks a page
            assert (await cluster.daemon.post(page_of(task, 1), "/segments"))[0] == 200
        seen = await cluster.reported(lambda seen: find_source(seen, "segments")["accepted"] == 2)
        assert find_source(seen, "segments")["incomplete"] == 0
        for _ in range(2):
            cluster.play()
            await cluster.reported(lambda seen: find_source(seen, "segments")["incomplete"] == 1)
            cluster.play(elsewhere=[0])
            await cluster.reported(lambda seen: find_source(seen, "segments")["incomplete"] == 0)
        assert await cluster.daemon.stop() == 0


async def test_the_process_with_the_first_partition_sends_alerts_for_all(cluster: Cluster, tmp_path: Path) -> None:
    async with Destination(503) as hook, Destination() as ops:
        hook.behaviour = 503
        (tmp_path / "ops").write_text(ops.url)
        cluster.daemon.configure("10-all", CONFIG % hook.url)
        cluster.daemon.configure("20-alert", ALERT % (tmp_path / "ops"))
        cluster.play(elsewhere=[0])
        await cluster.start()
        await cluster.runs(1, 2, 3)
        assert await cluster.post(0) == 202
        await cluster.reported(lambda seen: [one["state"] for one in seen["lanes"]] == ["failing"])
        for command in (("alerts", "list"), ("alerts", "test", "ops"), ("alerts", "show")):
            assert "the node that runs partition 0 sends the alerts of all nodes" in await ask(cluster.daemon, *command)
        assert ops.requests == []
        for _ in range(2):  # the second time what the alert remembers says that it was told
            cluster.play()
            await ops.requested(1)
            await cluster.reported(
                lambda seen: [one["told"] for one in seen["alerts"]] == [["connector hook: failing"]]
            )
            cluster.play(elsewhere=[0])
            await cluster.reported(lambda seen: seen["alerts"] == [])
        assert len(ops.requests) == 1
        hook.behaviour = 200
        await cluster.daemon.until(lambda: count(hook), all_once(0))
        assert await cluster.daemon.stop() == 0


async def test_a_tap_shows_partitions_that_come_later(cluster: Cluster) -> None:
    async with Destination() as hook:
        cluster.daemon.configure("10-all", CONFIG % hook.url)
        cluster.play(elsewhere=[0, 1, 2, 3])
        await cluster.start()
        connector = aiohttp.UnixConnector(str(cluster.daemon.state / "admin.sock"))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get("http://relay/tail?at=hook") as tap,
            asyncio.timeout(30),
        ):
            cluster.play()
            await cluster.runs(0, 1, 2, 3)
            assert await cluster.post(7) == 202
            assert orjson.loads(await tap.content.readline())["event"]["properties"] == {"n": 7}
        assert await cluster.daemon.stop() == 0


def find_source(seen: Any, name: str) -> Any:
    """Return a source of a status."""
    return next(one for one in seen["sources"] if one["source"] == name)
