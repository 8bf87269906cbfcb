"""What relay says of itself, asked for by the console once for all who look."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from relay.client import Client, ClientError, find_local
from relay.console.rates import RateHistory
from relay.status import Status
from relay.threads import ADMIN

FRESH_S: Final = 1.0
"""A younger status is shown to whoever asks next."""
STALE_S: Final = 10.0
"""An older status is shown as old."""
ANSWER_S: Final = 8.0
WAIT_S: Final = 4.0
"""Seconds that a page waits for a status."""


@dataclass(frozen=True, slots=True)
class StatusSnapshot:
    """The last status that relay gave."""

    status: Status | None = None
    """None: relay has not answered since the console runs."""
    at: float = 0.0
    """When relay gave it, in Unix seconds."""
    problem: str = ""
    """Why relay does not answer now; empty: it does."""

    @property
    def is_stale(self) -> bool:
        """Whether the status is too old to be shown as new."""
        return self.status is None or time.time() - self.at > STALE_S


class NotRunning(ClientError):
    """Raised when no relay runs."""


class RelayView:
    """Asks the relay of a state folder for its status, while it is looked at and for the rates of the last hour."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self.last = StatusSnapshot()
        self.rates = RateHistory()
        self._asked = -FRESH_S
        self._asking = asyncio.Lock()

    async def read(self) -> StatusSnapshot:
        """Return a fresh status, or after WAIT_S the last one."""
        try:
            async with asyncio.timeout(WAIT_S):
                async with self._asking:
                    if time.monotonic() - self._asked >= FRESH_S:
                        await self._ask()
        except TimeoutError:
            self.last = StatusSnapshot(self.last.status, self.last.at, "relay does not answer")
        return self.last

    def forget(self) -> None:
        """Make whoever looks next see a status from now on, after an action."""
        self._asked = -FRESH_S

    async def _ask(self) -> None:
        try:
            status = await ADMIN.run(self._read_status)
        except (ClientError, msgspec.MsgspecError) as error:
            self.last = StatusSnapshot(self.last.status, self.last.at, str(error))
        else:
            self.last = StatusSnapshot(status, time.time())
            self.rates.add(status)
        finally:
            self._asked = time.monotonic()

    def _read_status(self) -> Status:
        return msgspec.json.decode(self.connect().read("GET", "/status", timeout=ANSWER_S), type=Status)

    def connect(self, by: str | None = None) -> Client:
        """Return the running relay, asked by a user. Raises ClientError; NotRunning. Blocking."""
        client = find_local(self._state, by)
        if client is None:
            raise NotRunning(f"no relay runs with the state folder {self._state}")
        return client

    async def keep_rates(self) -> None:
        """Ask now and then, so that the rates have no gap, until cancelled."""
        while True:
            await self.read()
            await asyncio.sleep(self.rates.EVERY_S)
