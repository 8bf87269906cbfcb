"""The connector type `heap`: Currents events to the webhook URL that Heap gives its customers."""

import asyncio
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import aiohttp
from pydantic import Field

from relay.api import Batch, BatchSettings, Connector, ConnectorSettings, HttpUrl, Retry, Secret, check

ANSWER_BYTES: Final = 64 << 10
ANSWER_SECONDS: Final = 1.0
"""What of a good answer is read at most to keep the connection; the rest is not worth the wait."""


class HeapBatch(BatchSettings):
    """As Braze batches: up to 100 events a request (Braze docs, Custom Currents Export)."""

    events: int = Field(100, ge=1, le=100_000)


class Heap(Connector, type="heap"):
    """Sends events as Braze's own "Heap Export" Current would: the Custom HTTP payload with Braze's headers.

    (Braze docs, Heap: the export is the Custom HTTP one; Heap docs, Braze: the URL comes from Heap.)
    """

    class Settings(ConnectorSettings):
        """Where Heap takes the events."""

        mode: Literal["webhook"] = "webhook"
        endpoint: HttpUrl
        """The webhook URL that Heap gave you."""
        token: Secret | None = None
        """Sent as `Authorization: Bearer ...`, if Heap gave you one."""
        batch: HeapBatch = HeapBatch()

    settings: Settings

    def __init__(self, name: str, settings: Settings, *, folder: Path) -> None:
        super().__init__(name, settings, folder=folder)
        self._headers = {"Content-Type": "application/json", "Braze-Currents-Version": "1"}
        if settings.token:
            self._headers["Authorization"] = f"Bearer {settings.token.reveal()}"

    async def deliver(self, batch: Batch) -> None:
        """Post the batch as `{"events": [...]}`."""
        body = b'{"events":[' + batch.joined() + b"]}"
        try:
            async with self.http.post(
                self.settings.endpoint, data=BytesIO(body), headers=self._headers, allow_redirects=False
            ) as answer:
                check(answer)
                await _read_rest(answer)
        except (aiohttp.ClientError, OSError) as error:
            raise Retry(_reason(self.settings.endpoint, error)) from None


async def _read_rest(answer: aiohttp.ClientResponse) -> None:
    """Read a good answer to its end, so that the connection can be used again. How that goes changes nothing."""
    with suppress(aiohttp.ClientError, OSError, asyncio.IncompleteReadError):
        async with asyncio.timeout(ANSWER_SECONDS):
            await answer.content.readexactly(ANSWER_BYTES)


def _reason(url: str, error: Exception) -> str:
    """What went wrong, in words that hold no secret: of the URL the host alone."""
    if isinstance(error, TimeoutError):
        return f"{urlsplit(url).netloc} did not answer in time"
    detail = getattr(error, "strerror", None)
    return f"{urlsplit(url).netloc}: {type(error).__name__}" + (f" ({detail})" if detail else "")
