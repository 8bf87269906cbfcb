"""The stores of connectors in PostgreSQL, beside what every store promises."""

from collections.abc import AsyncIterator, Iterator
from contextlib import closing

import pytest

from relay.api import StoreError
from relay.postgres.connection import Database
from relay.postgres.lease import Leases
from relay.postgres.process import Process
from relay.postgres.state.plugin_store import StoreTable, TableStores, delete_stores_of
from tests.postgres import start_shared_server


@pytest.fixture
def database() -> Iterator[Database]:
    with closing(start_shared_server().make_database(partitions=2)) as database:
        yield database


@pytest.fixture
async def store(database: Database) -> AsyncIterator[StoreTable]:
    store = StoreTable(database, 0, "", "crm", "mine")
    yield store
    await store.close()


async def test_connectors_types_and_partitions_have_stores_of_their_own(database: Database) -> None:
    whose = [(0, "crm", "mine"), (0, "crm", "min"), (0, "chat", "mine"), (1, "crm", "mine")]
    stores = [StoreTable(database, partition, "", *names) for partition, *names in whose]
    for number, store in enumerate(stores):
        await store.write({b"key": b"%d" % number})
    assert [await store.scan(b"") for store in stores] == [[(b"key", b"%d" % number)] for number in range(4)]
    for store in stores:
        await store.close()
    found = TableStores(database)
    assert (found.list_connectors("crm"), found.list_connectors("crm", worker=1)) == (["min", "mine"], ["mine"])
    with found.read("crm", "mine", worker=1) as reader:
        assert reader.get([b"key", b"none"]) == {b"key": b"3"}
    with database.use() as db:
        delete_stores_of(db, "mine")
    assert (found.list_connectors("crm"), found.list_connectors("chat")) == (["min"], [])


async def test_a_reader_sees_one_moment(database: Database, store: StoreTable) -> None:
    await store.write({b"a%04d" % number: b"before" for number in range(1200)})
    with TableStores(database).read("crm", "mine") as reader:
        pairs = reader.scan(b"a")
        first = next(pairs)
        await store.write({b"a%04d" % number: b"after" for number in range(1200)})
        assert {value for _, value in [first, *pairs]} == {b"before"}
        assert [*reader.scan(b"b")] == []
        assert next(reader.scan(b"a", after=b"a0007")) == (b"a0008", b"before")


async def test_a_store_that_is_not_there_is_named(database: Database) -> None:
    with (
        pytest.raises(StoreError, match="store of connector mine in PostgreSQL"),
        TableStores(database).read("a", "mine"),
    ):
        pass


async def test_a_store_takes_nothing_once_another_process_has_the_lease(database: Database) -> None:
    first, second = (Leases(database, Process(node), 60.0) for node in "ab")
    store = StoreTable(database, 0, first.take(0).hold, "crm", "mine")
    await store.write({b"a": b"1"})
    with database.use() as db:
        db.run("UPDATE $.lease SET until = '-infinity'")
    second.take(0)
    with pytest.raises(StoreError, match="node b"):
        await store.write({b"a": b"2"})
    assert await store.get([b"a"]) == {b"a": b"1"}
    await store.close()
    for leases in (first, second):
        leases.close()


async def test_a_large_store_is_read_by_its_index(database: Database, store: StoreTable) -> None:
    await store.write({b"%06d" % number: b"x" for number in range(5000)})
    with database.use() as db:
        db.run("ANALYZE $.plugin_store")
    before = count_scans(database)
    await store.get([b"%06d" % number for number in range(0, 5000, 1000)])
    await store.write({b"000007": b"y"}, [b"000008"])
    assert await store.scan(b"004", limit=3) == [(b"004%03d" % number, b"x") for number in range(3)]
    await store.close()
    assert count_scans(database) == before


def count_scans(database: Database) -> int:
    """How often all rows of all stores were read."""
    with database.connect() as db:
        query = "SELECT seq_scan FROM pg_stat_user_tables WHERE relid = '$.plugin_store'::regclass"
        return int(db.run(query).fetchall()[0][0])
