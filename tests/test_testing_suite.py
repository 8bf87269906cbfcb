"""The suite passes for a connector that does right, and each of its tests fails for one that does wrong."""

from collections.abc import Callable

import aiohttp
import pytest

from relay.api import Batch, Connector, ConnectorSettings, HttpUrl, Reject, Retry, Secret, Unauthorized, check
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


@pytest.mark.parametrize(
    ("connector", "test"),
    [
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
