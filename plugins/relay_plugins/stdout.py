"""The connector type `stdout`: events as NDJSON on standard output."""

import asyncio
import sys

from pydantic import Field

from relay.api import Batch, Connector, ConnectorSettings, Retry


class Stdout(Connector, type="stdout"):
    """Writes one event per line; logs go to standard error, so the two never mix."""

    class Settings(ConnectorSettings):
        """Nothing to set; one batch at a time keeps the lines whole."""

        concurrency: int = Field(1, ge=1, le=1)

    @property
    def alone(self) -> bool:
        """Several processes would mix their lines."""
        return True

    async def deliver(self, batch: Batch) -> None:
        """Write and flush the batch."""
        try:
            await asyncio.to_thread(_write, batch.lines())
        except OSError as error:
            raise Retry(f"standard output: {error.strerror}") from None


def _write(lines: bytes) -> None:
    sys.stdout.buffer.write(lines)
    sys.stdout.buffer.flush()
