"""A fleet of one lane, in a folder, for tests of what becomes of its events over starts and stops."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Generic, TypeVar

from relay.api import Connector
from relay.config.model import Config
from relay.deliver.fleet import Fleet
from relay.journal.journal import Journal
from relay.state.database import StateDatabase
from relay.state.ledger import read_ledger
from relay.store import Counts
from relay.store.log import JournalLimits

C = TypeVar("C", bound=Connector)


class OneLane(Generic[C]):
    """It can be started and stopped; its connector is called `it`."""

    patience = 30
    """Seconds that anything may take."""

    def __init__(self, folder: Path, config: Config, kind: type[C]) -> None:
        self.folder, self.config, self._kind = folder, config, kind

    @asynccontextmanager
    async def running(self) -> AsyncIterator[C]:
        self.journal = Journal(self.folder / "journal", JournalLimits(1 << 30, 3600), 1 << 20)
        self.state = StateDatabase(self.folder)
        fleet = Fleet(self.journal, self.state, self.folder)
        await fleet.open(self.config)
        connector = fleet.lanes[0].connector
        assert isinstance(connector, self._kind)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(fleet.run(), name="fleet")
            try:
                yield connector
            finally:
                fleet.stop()
                async with asyncio.timeout(self.patience):
                    await asyncio.wait([running])
        await self.journal.close()
        self.state.close()

    async def until(self, **counts: int) -> None:
        """Wait until the saved books say so."""
        async with asyncio.timeout(self.patience):
            while (books := read_ledger(self.folder).get("it")) is None or books.counts != Counts(**counts):
                await asyncio.sleep(0.005)
