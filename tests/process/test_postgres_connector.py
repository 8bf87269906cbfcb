"""A real relay that fills a table of a real PostgreSQL: odd events, kill -9 of relay, and death of the server."""

from collections.abc import Iterator

import orjson
import pytest

pytest.importorskip("asyncpg", reason="the connector takes the package currents-relay[postgres]")

from relay.testing import make_event
from relay_plugins.postgres.table import make_table
from tests.daemon import Daemon
from tests.postgres import Server, run_server
from tests.process.commands import act, until_answer
from tests.process.load import ARCHIVE, MORE, Load

CONFIG = """
[source.braze]
type = "currents"
path = "/currents"
[erasure]
after = "0s"
[connector.lake]
type = "postgres"
dsn = { file = "%s" }
batch = { events = 50, age = "5ms" }
retry = { first = "10ms", max = "100ms" }
"""


@pytest.fixture
def server() -> Iterator[Server]:
    with run_server() as server:
        server.execute(make_table("events"))
        yield server


@pytest.fixture
def configured(daemon: Daemon, server: Server) -> Daemon:
    dsn = daemon.conf.parent / "dsn"
    dsn.write_text(f"postgresql://relay@127.0.0.1:{server.port}/postgres")
    daemon.configure("10-all", CONFIG % dsn + ARCHIVE)
    return daemon


def read_ids(server: Server) -> list[str]:
    return [str(row[0]) for row in server.execute("SELECT event->>'id' FROM events")]


async def test_a_table_gets_what_it_can_hold_once_it_is_there_and_loses_users(
    configured: Daemon, server: Server
) -> None:
    server.execute("ALTER TABLE events RENAME TO hidden")
    await configured.start()
    good = [make_event(n=number) for number in range(60)]
    odd = make_event(text="a\0b")
    assert (await configured.post(b'{"events":[%s]}' % b",".join([*good[:30], odd, *good[30:]])))[0] == 202
    missing = 'relation "events" does not exist (42P01); make the table'
    await until_answer(configured, "status", good=lambda found: missing in str(found["lanes"]))
    assert configured.parked() == []
    server.execute("ALTER TABLE hidden RENAME TO events")
    await act(configured, "resume", "lake")
    books = await configured.settled("lake", 61)
    assert (books.counts.delivered, books.counts.parked) == (60, 1)
    (parked,) = configured.parked()
    assert "22P05" in parked.reason
    assert sorted(read_ids(server)) == sorted(orjson.loads(event)["id"] for event in good)
    await act(configured, "erasures", "request", "--external-id", "customer-1")
    (erasure,) = await until_answer(configured, "erasures", "list", good=lambda found: found[0]["status"] == "done")
    assert erasure["removed"]["events"] == 61
    assert read_ids(server) == []
    assert await configured.stop() == 0


@pytest.mark.slow
async def test_relay_killed_under_load_has_everything_in_the_table_once(configured: Daemon, server: Server) -> None:
    load = Load(configured, lambda chance: make_event())
    await load.kill_relay()
    await configured.start()
    await configured.settled("lake", len(load.acknowledged))
    assert await configured.stop() == 0
    stored = read_ids(server)
    assert load.acknowledged <= {*stored}
    assert len(stored) == len({*stored})


@pytest.mark.slow
@pytest.mark.long  # quicker: test_connector in tests/unit/plugins/postgres
async def test_a_server_that_died_under_load_has_everything_afterwards(configured: Daemon, server: Server) -> None:
    load = Load(configured, lambda chance: make_event())
    await configured.start()
    async with load.under_way():
        for end in (server.kill, server.stop):
            await load.until_more()
            end()
            await load.until_delivered("archive", MORE)  # it goes on meanwhile
            server.start()
            await load.until_delivered("lake")
    await configured.settled("lake", len(load.acknowledged))
    assert await configured.stop() == 0
    stored = read_ids(server)
    assert load.acknowledged <= {*stored}
    assert len(stored) == len({*stored})
