"""The suite passes for a connector that does right, and each of its tests fails for one that does wrong."""

import asyncio
from collections.abc import Callable, Sequence

import aiohttp
import pytest

from relay.api import (
    Batch,
    Connector,
    ConnectorSettings,
    HttpUrl,
    Reject,
    Retry,
    Secret,
    Skipped,
    Unauthorized,
    User,
    check,
)
from relay.testing import ConnectorSuite


class Good(Connector):
    class Settings(ConnectorSettings):
        url: HttpUrl
        token: Secret

    async def deliver(self, batch: Batch) -> None:
        headers = {"Authorization": f"Bearer {self.settings.token.reveal()}"}
        async with self.http.post(self.settings.url, data=batch.lines(), headers=headers) as answer:
            check(answer)


class TestGood(ConnectorSuite):
    def make(self, url, token, folder):
        return Good("good", Good.Settings(type="good", url=url, token=token), folder=folder)


class Silent(Good):
    async def deliver(self, batch: Batch) -> None:
        pass


class Harsh(Good):
    async def deliver(self, batch: Batch) -> None:
        try:
            await super().deliver(batch)
        except (aiohttp.ClientError, Retry) as error:
            raise Reject(str(error)) from None


class Helpless(Good):
    async def deliver(self, batch: Batch) -> None:
        try:
            await super().deliver(batch)
        except (aiohttp.ClientError, Retry) as error:
            raise Unauthorized(str(error)) from None


class Chatty(Good):
    async def deliver(self, batch: Batch) -> None:
        try:
            await super().deliver(batch)
        except Reject as error:
            raise Reject(f"{error.reason} with {self.settings.token.reveal()}") from None


class Fragile(Good):
    closed = False

    async def close(self) -> None:
        if self.closed:
            raise RuntimeError("closed twice")
        self.closed = True


class Threaded(Good):
    async def deliver(self, batch: Batch) -> None:
        await asyncio.to_thread(batch.lines)
        await super().deliver(batch)


class ThreadedErasure(Good):
    async def erase(self, users: Sequence[User]) -> list[Skipped]:
        await asyncio.get_running_loop().run_in_executor(None, repr, users)
        return [Skipped("no")] * len(users)


class OwnThreads(Good):
    async def deliver(self, batch: Batch) -> None:
        await self.run_blocking(batch.lines)
        await super().deliver(batch)


class TestOwnThreads(ConnectorSuite):
    def make(self, url, token, folder):
        return OwnThreads("good", Good.Settings(type="good", url=url, token=token), folder=folder)


@pytest.mark.parametrize(
    ("connector", "test"),
    [
        (Threaded, ConnectorSuite.test_blocks_in_threads_of_its_own_alone),
        (ThreadedErasure, ConnectorSuite.test_blocks_in_threads_of_its_own_alone),
        (Silent, ConnectorSuite.test_delivers_a_batch),
        (Silent, ConnectorSuite.test_retries_when_the_connection_is_refused),
        (Harsh, ConnectorSuite.test_retries_when_the_connection_is_refused),
        (Helpless, ConnectorSuite.test_retries_when_the_connection_is_refused),
        (Harsh, ConnectorSuite.test_retries_when_the_destination_is_unavailable),
        (Chatty, ConnectorSuite.test_keeps_its_secret_out_of_what_it_says),
        (Fragile, ConnectorSuite.test_can_be_closed_twice),
    ],
)
async def test_the_suite_notices(connector: type[Good], test: Callable, tmp_path):
    class Suite(ConnectorSuite):
        def make(self, url, token, folder):
            return connector("bad", connector.Settings(type="bad", url=url, token=token), folder=folder)

    with pytest.raises((AssertionError, RuntimeError)):
        await test(Suite(), tmp_path)
