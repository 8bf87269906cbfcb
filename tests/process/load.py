"""Load on a relay that is killed, or whose destination goes away, in the middle of it."""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
import orjson

from tests.daemon import Daemon

ROUNDS: Final = 20 if "RELAY_LONG" in os.environ else 1
MORE: Final = 100
"""Events that come or go before something happens."""
ARCHIVE: Final = '[connector.archive]\ntype = "file"\npath = "out.ndjson"\n'
"""A connector beside the one that a test is about."""


class Load:
    """Senders of a relay, and the ids of the events that relay has taken from them."""

    def __init__(self, daemon: Daemon, make: Callable[[random.Random], bytes]) -> None:
        """`make`: makes an event."""
        self._daemon, self._make = daemon, make
        self.acknowledged = set[str]()

    async def send(self) -> None:
        """Post events until the task is cancelled, or relay is gone."""
        chance = random.Random(1)
        async with aiohttp.ClientSession() as session:
            while True:
                events = [self._make(chance) for _ in range(20)]
                body = b'{"events":[%s]}' % b",".join(events)
                try:
                    async with session.post(f"{self._daemon.url}/currents", data=body) as answer:
                        if answer.status == 202:
                            self.acknowledged.update(orjson.loads(event)["id"] for event in events)
                except aiohttp.ClientError:
                    return
                await asyncio.sleep(0.002)

    async def kill_relay(self) -> None:
        """Start relay and kill it under load, in ROUNDS rounds."""
        chance = random.Random(3)
        for _ in range(ROUNDS):
            await self._daemon.start()
            async with asyncio.TaskGroup() as group:
                for number in range(2):
                    group.create_task(self.send(), name=f"sender {number}")
                await self.until_more(chance.randint(20, 400))
                await self._daemon.kill()

    @asynccontextmanager
    async def under_way(self) -> AsyncIterator[None]:
        """Send events for as long as the body takes."""
        async with asyncio.TaskGroup() as group:
            sender = group.create_task(self.send(), name="sender")
            yield
            sender.cancel()

    async def until_more(self, number: int = MORE) -> None:
        """Wait until relay has taken so many more events."""
        least = len(self.acknowledged) + number
        await self._daemon.until(lambda: len(self.acknowledged), lambda now: now > least)

    async def until_delivered(self, connector: str, more: int = 0) -> None:
        """Wait until a connector has delivered as many events as relay has taken by now, and `more`."""
        least = len(self.acknowledged) + more
        await self._daemon.until(lambda: self._daemon.ledger()[connector].counts.delivered, lambda now: now > least)
