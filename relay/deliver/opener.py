"""Opens a connector or a filter, for its lane and for the replays beside it; a connector also for erasures.

How it fails and recovers: a plugin that does not get ready within its `open_timeout`, or fails, is closed and opened
again AGAIN_S later, as often as it takes. After SLOW_S the log reports a plugin that is not open yet. The events of the
lane stay in the journal; no other lane waits. Cancelling `open` cuts the attempt under way short, also if the plugin
ignores the cancellation.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from relay.api import Connector, Filter
from relay.api.internal import LeftBehind
from relay.api.transport import outage
from relay.config import Redaction
from relay.guests import Late, call_guest, format_trace, name_error, read_text

AGAIN_S: Final = 10.0
SLOW_S: Final = 10.0
CLOSE_S: Final = 5.0
HEED_SHARE: Final = 0.2
"""The share of the time to close that a plugin has to end after it was told to."""
log = structlog.stdlib.get_logger()


NOT_OPEN: Final = "cannot be opened"
"""The beginning of a lane's fault while its connector or a filter is not open."""


class Opener:
    """Opens and closes one connector, or one filter of a lane."""

    def __init__(self, guest: Connector | Filter, lane: str) -> None:
        """`lane` is the connector's name."""
        self._guest, self._clean = guest, Redaction(guest.settings).clean
        self._kind = "connector" if isinstance(guest, Connector) else "filter"
        self._name = f"{self._kind} {guest.name}"
        self._whose = {"connector": lane} | ({} if isinstance(guest, Connector) else {"filter": guest.name})
        self._log = log.bind(**self._whose)
        self._open, self._tried = asyncio.Event(), asyncio.Event()
        self._begun, self._left = False, LeftBehind()
        self.problem = ""
        """Why the plugin could not be opened, or that it is not open yet; "" if it is open, or there is nothing to
        report so far."""

    async def open(self) -> None:
        """Open the plugin, as often as it takes."""
        while not self._open.is_set():
            fault = await self._try_once()
            if self.problem and not fault:
                self._log.info(f"{self._kind} is open")
            self.problem = fault
            self._tried.set()
            if not fault:
                self._open.set()
                return
            await asyncio.sleep(AGAIN_S)
            while self._left:  # noqa: ASYNC110  a thread that is not back: another attempt would leave one more behind
                await asyncio.sleep(AGAIN_S)

    async def _try_once(self) -> str:
        """Open the plugin, or close what has opened; return why it could not be opened, or ""."""
        limit = self._guest.settings.open_timeout
        self._begun = True
        try:
            with self._left.noted(), self._warn_if_slow(limit):
                await call_guest(self._guest.open, "open", self._whose, limit)
        except Exception as error:
            met = outage.find_outcome(error)
            reason = self._clean(read_text(met.reason) if met and met.reason else name_error(error))
            if isinstance(error, Late):
                reason = f"it was not ready within {limit:g}s (open_timeout)"
            more = {} if met else {"exception": self._clean(format_trace(error))}
            self._log.error(f"{self._kind} cannot be opened, tried again", reason=reason, in_s=AGAIN_S, **more)
            await self.close()
            return self._describe_fault(reason)
        return ""

    async def wait_until_open(self) -> None:
        """Wait until the plugin is open."""
        await self._open.wait()

    async def wait_until_tried(self) -> str:
        """Wait for the first attempt to open the plugin; return why it failed, or ""."""
        await self._tried.wait()
        return self.problem

    async def close(self, within: float = CLOSE_S) -> None:
        """Close the plugin if relay has begun to open it, whatever happens within so many seconds."""
        if not self._begun:
            return
        self._begun = False
        try:
            heed = within * HEED_SHARE
            await call_guest(self._guest.release, "close", self._whose, within - heed, heed)
        except Exception as error:
            self._log.error(f"{self._kind} did not close", exception=self._clean(format_trace(error)))

    @contextmanager
    def _warn_if_slow(self, limit: float) -> Iterator[None]:
        """Inside, the plugin is opened. Log that this takes long, unless the log has it already that opening failed."""

        def tell() -> None:
            reason = f"it is not ready after {SLOW_S:g}s, and has {limit:g}s (open_timeout)"
            self.problem = self._describe_fault(reason)
            self._log.warning(f"{self._kind} is not open yet", reason=reason)

        if self.problem or limit <= SLOW_S:
            yield
            return
        slow = asyncio.get_running_loop().call_later(SLOW_S, tell)
        try:
            yield
        finally:
            slow.cancel()

    def _describe_fault(self, problem: str) -> str:
        return f"{NOT_OPEN}: {problem}" if self._kind == "connector" else f"{NOT_OPEN}: {self._name}: {problem}"
