"""Has a connector or a filter open, for its lane and for the replays beside it; a connector also for erasures.

How it fails and recovers: one that does not get ready, or not within its `open_timeout`, is closed, and opened once
more AGAIN_S later, for as long as it takes. The lane's events stay in the journal; nobody else waits for it. Whoever
cancels `open` cuts the attempt under way short. An `open` that takes no notice of that is ended all the same.
"""

import asyncio
from typing import Final

import structlog

from relay.api import Connector, Filter
from relay.api.blocking import LeftBehind
from relay.api.outage import outcome_of
from relay.config import Redaction
from relay.guests import Late, called, named, text_of, trace_of

AGAIN_S: Final = 10.0
CLOSE_S: Final = 5.0
HEED_SHARE: Final = 0.2
"""Of the time to close: for what was told to end."""
log = structlog.stdlib.get_logger()


NOT_OPEN: Final = "cannot be opened"
"""How the fault of a lane begins whose connector or filter is not open."""


class Opener:
    """Opens and closes one connector, or one filter of a lane."""

    def __init__(self, guest: Connector | Filter, lane: str) -> None:
        """`lane` is the connector's name."""
        self._guest, self._clean = guest, Redaction(guest.settings).clean
        self._kind = "connector" if isinstance(guest, Connector) else "filter"
        self._name = f"{self._kind} {guest.name}"
        self._whose = {"connector": lane} | ({} if isinstance(guest, Connector) else {"filter": guest.name})
        self._told = log.bind(**self._whose)
        self._open, self._tried = asyncio.Event(), asyncio.Event()
        self._begun, self._left = False, LeftBehind()
        self.problem = ""
        """Why it could not be opened; "" if it is open, or was not tried yet."""

    async def open(self) -> None:
        """Open it, as often as it takes."""
        while not self._open.is_set():
            self.problem = await self._try()
            self._tried.set()
            if not self.problem:
                self._open.set()
                return
            await asyncio.sleep(AGAIN_S)
            while self._left:  # noqa: ASYNC110  a thread that is not back: another attempt would leave one more behind
                await asyncio.sleep(AGAIN_S)

    async def opened(self) -> None:
        """Wait until it is open."""
        await self._open.wait()

    async def tried(self) -> str:
        """Wait until it is open, or could not be opened; return why it could not."""
        await self._tried.wait()
        return self.problem

    async def close(self, within: float = CLOSE_S) -> None:
        """Close it if it was opened, or half so; whatever happens, within so many seconds."""
        if not self._begun:
            return
        self._begun = False
        try:
            heed = within * HEED_SHARE
            await called(self._guest.release, "close", self._whose, within - heed, heed)
        except Exception as error:
            self._told.error(f"{self._kind} did not close", exception=self._clean(trace_of(error)))

    async def _try(self) -> str:
        """Open it; return why that failed."""
        limit = self._guest.settings.open_timeout
        self._begun = True
        try:
            with self._left.noted():
                await called(self._guest.open, "open", self._whose, limit)
        except Exception as error:
            late = isinstance(error, Late)
            problem = f"it was not ready within {limit:g}s (open_timeout)" if late else self._why(error)
            more = {} if outcome_of(error) else {"exception": self._clean(trace_of(error))}
            self._told.error(f"{self._kind} cannot be opened, tried again", reason=problem, in_s=AGAIN_S, **more)
            await self.close()
            return f"{NOT_OPEN}: {problem}" if self._kind == "connector" else f"{NOT_OPEN}: {self._name}: {problem}"
        if self.problem:
            self._told.info(f"{self._kind} is open")
        return ""

    def _why(self, error: Exception) -> str:
        outage = outcome_of(error)
        return self._clean(text_of(outage.reason) if outage and outage.reason else named(error))
