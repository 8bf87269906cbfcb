"""A partition goes to another process while its batches are under way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import ClassVar

import pytest

from relay.api import Batch, Connector, Kind
from relay.config.model import Config, Configured
from relay.deliver.fleet import Fleet
from relay.postgres.connection import Database
from relay.postgres.lease import Leases
from relay.postgres.log.log import PostgresLog
from relay.postgres.process import Process
from relay.postgres.state.state import PostgresState
from relay.store import JournalLimits
from relay.testing import make_event
from tests.postgres import start_shared_server

KIND = Kind("braze", "users.messages.email.Open")


class Hanging(Connector, type="hanging"):
    """Notes what it is given, and answers nothing while `hangs`."""

    given: ClassVar[list[Batch]]
    hangs: ClassVar[bool]

    async def deliver(self, batch: Batch) -> None:
        self.given.append(batch)
        if self.hangs:
            await asyncio.Event().wait()


@asynccontextmanager
async def running(database: Database, node: str) -> AsyncIterator[Fleet]:
    """Run a fleet of one lane with partition 0, whoever had it. At the end what is under way is cut short."""
    with database.use() as db:
        db.run("UPDATE $.lease SET until = '-infinity'")
    with closing(Leases(database, Process(node), 60.0)) as leases:
        state = PostgresState(database, leases.take(0))
        log = PostgresLog(database, 0, JournalLimits(1 << 30, 3600), 1 << 20)
        state.when_taken = log.fence
        table = {"type": "hanging", "concurrency": 2, "batch": {"events": 5, "age": "0ms"}}
        fleet = Fleet(log, state, Path())
        await fleet.open(Config(connectors={"it": Configured("it", Hanging, Hanging.Settings.model_validate(table))}))  # type: ignore[dict-item]
        running = asyncio.get_running_loop().create_task(fleet.run(), name="fleet")
        try:
            yield fleet
        finally:
            fleet.stop()
            running.cancel()
            await asyncio.wait([running], timeout=30)
            await log.close()
            state.close()


async def until_given(batches: int) -> list[tuple[str, list[int]]]:
    """Wait for so many batches; return the key and the offsets of each."""
    async with asyncio.timeout(30):
        while len(Hanging.given) < batches:
            await asyncio.sleep(0.005)
    return sorted((batch.id, batch.offsets()) for batch in Hanging.given)


@pytest.mark.promise(6)
async def test_the_next_holder_sends_the_same_batches_under_the_same_keys() -> None:
    Hanging.given, Hanging.hangs = [], True
    with closing(start_shared_server().make_database()) as database:
        async with running(database, "a") as fleet:
            for number in range(2):
                await fleet._journal.append([KIND] * 3, [make_event(n=n) for n in range(3)])
                under_way = await until_given(number + 1)
            async with running(database, "b") as following:  # while a still believes that it has the partition
                Hanging.given, Hanging.hangs = [], False
                await following._journal.append([KIND] * 4, [make_event(n=n) for n in range(4)])
                again = await until_given(3)
    assert [one for one in again if one in under_way] == under_way
    assert sorted(offset for _, offsets in again for offset in offsets) == [*range(10)]
