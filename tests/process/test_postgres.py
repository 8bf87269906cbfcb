"""A real relay on PostgreSQL: what users do, a crash, and a server that goes away and comes back."""

import asyncio
import re
import tomllib
from collections.abc import AsyncIterator

import aiohttp
import orjson
import pytest

from relay.testing import Answer, Destination, make_event
from tests.daemon import Daemon
from tests.postgres import Server, run_server, start_shared_server
from tests.process.commands import act, ask, ask_replay, numbers, until_answer

CONFIG = """
[journal]
backend = "postgres"
dsn = { file = "%s" }
schema = "%s"
node = "a"
partitions = 1
lease = "3s"
[metrics]
listen = "127.0.0.1:0"
[erasure]
after = "0s"
[source.braze]
type = "currents"
path = "/currents"
[connector.hook]
type = "http"
url = "%s"
body = "single"
retry = { first = "10ms", max = "50ms" }
"""
KINDS = {"started", "paused", "resumed", "parked_replayed", "replay_started", "replay_done", "erased"}
"""What the history has of a run."""


@pytest.fixture
async def hook() -> AsyncIterator[Destination]:
    async with Destination() as hook:
        yield hook


def configure(daemon: Daemon, server: Server, hook: Destination) -> None:
    """Have the daemon work with a new cluster of one partition."""
    dsn = daemon.conf.parent / "dsn"
    dsn.write_text(server.dsn)
    dsn.chmod(0o600)
    database = server.make_database(partitions=1)
    database.close()
    daemon.configure("10-all", CONFIG % (dsn, database.schema[1:-1], hook.url))


async def is_ready(daemon: Daemon) -> bool:
    """Ask as a load balancer does."""
    async with aiohttp.request("GET", f"{daemon.url}/readyz") as answer:
        return answer.status == 200


async def post(daemon: Daemon, *numbers: int) -> int:
    """Post events with these numbers, and ids like "event-7"; return the status of the answer."""
    events = [orjson.loads(make_event(n=n)) | {"id": f"event-{n}"} for n in numbers]
    return (await daemon.post(orjson.dumps({"events": events})))[0]


async def test_relay_does_on_postgresql_what_it_does_on_disk(daemon: Daemon, hook: Destination) -> None:
    configure(daemon, start_shared_server(), hook)
    await daemon.start()
    assert await post(daemon, 0, 1, 2) == 202
    await daemon.until(lambda: sorted(numbers(hook)), lambda seen: seen == [0, 1, 2])

    await act(daemon, "pause", "hook")
    await post(daemon, 3)
    found = await until_answer(daemon, "status", good=lambda found: found["lanes"][0]["pending"] == 1)
    assert (found["lanes"][0]["state"], len(hook.requests)) == ("paused", 3)
    await act(daemon, "resume", "hook")
    await daemon.until(lambda: numbers(hook), lambda seen: 3 in seen)

    hook.behaviour = 400
    await post(daemon, 4)
    await daemon.until(lambda: numbers(hook), lambda seen: 4 in seen)
    parked = await until_answer(daemon, "parked", "list", good=lambda found: isinstance(found, list))
    assert [(one["connector"], one["cause"], one["offset"]) for one in parked] == [("hook", "refused", 4)]
    hook.behaviour = 200
    await act(daemon, "parked", "replay", "--connector", "hook")
    await daemon.until(lambda: numbers(hook), lambda seen: seen.count(4) == 2)
    await until_answer(daemon, "parked", "list", good=lambda found: found == "Error: no event is parked")

    assert await ask_replay(daemon, 0, 2) == 1
    await daemon.until(lambda: numbers(hook), lambda seen: (seen.count(0), seen.count(1)) == (2, 2))
    await until_answer(daemon, "replay", "list", good=lambda found: found[0]["status"] == "done")

    await check_commands(daemon)
    await act(daemon, "erasures", "request", "--external-id", "customer-1")
    erased = await until_answer(daemon, "erasures", "list", good=lambda found: found[0]["status"] == "done")
    assert erased[0]["removed"]["events"] == 5
    await until_answer(daemon, "history", good=lambda found: {one["kind"] for one in found} >= KINDS)
    assert await daemon.stop() == 0
    assert daemon.list_complaints() == ["event parked"]
    assert not [*daemon.state.rglob("*.db"), *daemon.state.rglob("*.log")]


async def check_commands(daemon: Daemon, *more: str) -> None:
    """Check what commands find of the 5 events. `more`: options of each command."""
    (row,) = (await until_answer(daemon, "audit", *more, good=lambda found: not found["connectors"][0]["pending"]))[
        "connectors"
    ]
    assert (row["accepted"], row["delivered"], row["balances"]) == (5, 5, True)
    (way,) = (await ask(daemon, "trace", "event-4", *more))["journal"][0]["connectors"]
    assert way["state"].startswith("delivered")
    lines = (await daemon.run("journal", "dump", "--limit", "2", *more)).stdout.splitlines()
    assert [orjson.loads(line)["event"]["id"] for line in lines] == ["event-0", "event-1"]
    assert (await ask(daemon, "journal", "check", *more))["ok"]
    compared = await ask(daemon, "diff", str(daemon.conf), *more)
    assert (compared["different"], compared["events"], compared["connectors"][0]["as_before"]) == (False, 5, 5)


@pytest.mark.long  # quicker: tests/unit/postgres/test_postgres_store
async def test_commands_work_on_postgresql_while_nothing_runs(daemon: Daemon, hook: Destination) -> None:
    configure(daemon, start_shared_server(), hook)
    await daemon.start()
    await post(daemon, 0, 1, 2, 3)
    await daemon.until(lambda: numbers(hook), lambda seen: len(seen) == 4)
    hook.behaviour = 400
    await post(daemon, 4)
    await daemon.until(lambda: numbers(hook), lambda seen: 4 in seen)
    assert await daemon.stop() == 0
    conf = "--conf", str(daemon.conf)
    (parked,) = await ask(daemon, "parked", "list", *conf)
    await act(daemon, "parked", "replay", str(parked["number"]), *conf)
    await act(daemon, "pause", "hook", *conf)
    hook.behaviour = 200
    await daemon.start()
    await until_answer(daemon, "status", good=lambda found: found["lanes"][0]["state"] == "paused")
    assert numbers(hook).count(4) == 1
    await act(daemon, "resume", "hook")
    await daemon.until(lambda: numbers(hook), lambda seen: seen.count(4) == 2)
    assert await daemon.stop() == 0
    await check_commands(daemon, *conf)


@pytest.mark.long  # quicker: test_cluster, and test_postgres_power
async def test_a_relay_that_was_killed_loses_nothing(daemon: Daemon, hook: Destination) -> None:
    configure(daemon, start_shared_server(), hook)
    await daemon.start()
    hook.behaviour = 503
    for number in range(5):
        assert await post(daemon, number) == 202
    await daemon.kill()
    hook.behaviour = 200
    hook.requests.clear()
    await daemon.start()
    await daemon.until(lambda: {*numbers(hook)}, lambda seen: seen == {*range(5)})
    await check_commands(daemon)
    assert await daemon.stop() == 0


async def test_a_server_that_comes_back_finds_the_same_relay(daemon: Daemon, hook: Destination) -> None:
    with run_server() as server:
        configure(daemon, server, hook)
        await daemon.start()
        pid, taken = daemon.pid, set[int]()
        assert await post(daemon, 0) == 202
        server.stop()
        refused = 0
        for number in range(1, 5):
            status = await post(daemon, number)
            assert status in (202, 503)
            taken |= {number} if status == 202 else set()
            refused += status == 503
        assert refused
        server.start()
        async with asyncio.timeout(30):
            while (status := await post(daemon, 5)) != 202:
                assert status == 503
                await asyncio.sleep(0.2)
        await daemon.until(lambda: {*numbers(hook)}, lambda seen: seen >= {0, 5} | taken)
        assert (daemon.pid, daemon.is_running) == (pid, True)
        found = await until_answer(daemon, "audit", good=lambda found: not found["connectors"][0]["pending"])
        assert found["balances"]
        assert await daemon.stop() == 0


@pytest.mark.long  # quicker: the test above, and test_outage in tests/unit/postgres
async def test_an_outage_beyond_the_lease_is_told_once_and_ends_well(daemon: Daemon, hook: Destination) -> None:
    with run_server() as server:
        configure(daemon, server, hook)
        await daemon.start()
        hook.behaviour = 503
        assert await post(daemon, 0) == 202
        await until_answer(daemon, "history", good=lambda found: "failing" in [one["kind"] for one in found])
        hook.behaviour = 200
        await until_answer(daemon, "history", good=lambda found: "recovered" in [one["kind"] for one in found])
        hook.requests.clear()
        hook.script.append(Answer(hang=True))
        assert await post(daemon, 1) == 202
        await hook.requested(1)
        server.stop()
        hook.release()  # what is delivered now cannot be saved
        await daemon.until(lambda: daemon.logged("partition does not run here any more"), bool)
        for _ in range(5):  # a relay without a partition goes on to say that the database is away
            assert (await ask(daemon, "status"))["journal"]["refusing"]
        assert await is_ready(daemon) is False  # however long ago the last request was
        assert "journal: nothing is known of it now" in (await daemon.run("status")).stdout.decode()
        server.start()
        while not await is_ready(daemon):
            await asyncio.sleep(0.05)
        async with asyncio.timeout(30):
            while await post(daemon, 2) != 202:
                await asyncio.sleep(0.2)
        await until_answer(daemon, "status", good=lambda found: found["lanes"] and not found["waiting_partitions"])
        found = await until_answer(daemon, "history", good=lambda found: "journal_recovered" in str(found))
        kinds = [one["kind"] for one in found]
        assert (kinds.count("journal_full"), kinds.count("database_failing")) == (0, 1)
        status = await daemon.run("status", "--quiet")
        assert (status.returncode, status.stdout) == (0, b"")


async def test_a_reload_with_fewer_partitions_is_refused(daemon: Daemon, hook: Destination) -> None:
    configure(daemon, start_shared_server(), hook)
    fewer = (daemon.conf / "10-all.toml").read_text()
    daemon.configure("10-all", fewer.replace("partitions = 1", "partitions = 2"))
    await daemon.start()
    daemon.configure("10-all", fewer)
    reload = await daemon.run("reload")
    assert reload.returncode == 78
    assert "journal.partitions: is 1, and 2 partitions exist" in str(reload)
    assert await daemon.stop() == 0


@pytest.mark.long  # quicker: tests/unit/postgres/test_postgres_store
async def test_a_relay_that_runs_does_not_go_on_with_new_tables(daemon: Daemon, hook: Destination) -> None:
    server = start_shared_server()
    configure(daemon, server, hook)
    schema = tomllib.loads((daemon.conf / "10-all.toml").read_text())["journal"]["schema"]
    await daemon.start()
    assert await post(daemon, 0) == 202
    server.execute(f"ALTER SCHEMA {schema} RENAME TO {schema}_old")
    init = await daemon.run("journal", "init", "--conf", str(daemon.conf))
    assert (init.returncode, b"warning: PostgreSQL" in init.stderr) == (0, True)
    for number in range(1, 4):
        assert await post(daemon, number) == 503
    said = f'the schema "{schema}" holds cluster .*, and this node has worked with cluster .*relay accept journal'
    await until_answer(daemon, "status", good=lambda found: bool(re.search(said, found["journal"]["refusing"] or "")))
    assert re.search("holds cluster .* has worked with cluster", str(await ask(daemon, "audit")))
    assert server.execute(f"SELECT (SELECT count(*) FROM {schema}.node), (SELECT count(*) FROM {schema}.segment)") == [
        (0, 0)
    ]
    server.execute(f"DROP SCHEMA {schema} CASCADE; ALTER SCHEMA {schema}_old RENAME TO {schema}")
    async with asyncio.timeout(30):
        while await post(daemon, 4) != 202:
            await asyncio.sleep(0.2)
    await daemon.until(lambda: {*numbers(hook)}, lambda seen: seen == {0, 4})
    assert {*daemon.list_complaints()} <= {
        "the tables of the cluster are gone",
        "request refused",
        "partition ends here, its deliveries under way are cut short",
    }
