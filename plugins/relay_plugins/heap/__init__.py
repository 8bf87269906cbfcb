"""The connector type `heap`: Currents events to the webhook URL that Heap gives its customers."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from relay.api import Batch, BatchSettings, Connector, ConnectorSettings, HttpUrl, Secret


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
        await self.post(self.settings.endpoint, batch.joined(b'{"events":[', b"]}"), self._headers)
