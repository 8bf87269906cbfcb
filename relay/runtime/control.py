"""What the admin API shows of this process and makes it do."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from relay.admin import Tap
from relay.catalogue import Selection
from relay.config import Config
from relay.runtime.announcer import Announcer
from relay.runtime.partitions import Partitions
from relay.runtime.status import StatusReader
from relay.runtime.stored import forget_removed, merge_with_stored
from relay.status import RefusedReload, ReloadResult, Status, keep_configured, read_retired
from relay.store import Appender, Entry, Forgotten, Pause, Store
from relay.threads import ADMIN

HEED_S: Final = 5.0
"""Seconds that a lane has to obey a pause."""
HEED_LOOK_S: Final = 0.02


class View:
    """The daemon for `relay.admin`."""

    def __init__(
        self,
        config: Config,
        store: Store,
        folder: Path,
        looks: StatusReader,
        partitions: Partitions,
        events: Appender,
        reload: Callable[..., Coroutine[Any, Any, ReloadResult]],
        note: Callable[[Entry], None],
        announcer: Announcer,
        *,
        alone: bool,
    ) -> None:
        """`events`: where this process puts events. `alone`: no other process runs with the state folder. `note` writes
        an entry into the history."""
        self._alone = alone
        self.config, self.store, self.folder, self.reload, self.note = config, store, folder, reload, note
        self.used = config
        """The configuration of the start."""
        self.alerts, self._announcer = announcer.alerts, announcer
        self._looks, self._partitions, self._events = looks, partitions, events
        self.changing = asyncio.Lock()
        """Held while the configuration changes."""
        self.restart: Sequence[str] = ()
        """Changes since the start that wait for a restart."""
        self.refused_reload: RefusedReload | None = None

    @asynccontextmanager
    async def tap(self, at: str, entries: Sequence[str]) -> AsyncIterator[AsyncIterator[bytes]]:
        """Yield the events at "ingest", or at a connector behind its filters, as NDJSON. Raises LookupError."""
        if at != "ingest":
            self._check(at)
        taps, tap = self._events.taps if at == "ingest" else self._partitions.taps[at], Tap(Selection(entries))
        taps.add(tap)
        try:
            yield tap.take_portions()
        finally:
            taps.discard(tap)

    async def pause(self, connector: str, until: float | None) -> bool:
        """Pause a connector until a time (Unix seconds) or until it is resumed; return False if it is paused as long
        already.

        Returns when the lane obeys. Raises LookupError, OSError if the lane does not obey in time, Unavailable.
        """
        self._check(connector)
        changed = await ADMIN.run(self.store.pauses.pause, connector, until)

        def is_so() -> bool:
            is_over = until is not None and until <= time.time()
            return is_over or all(held is not None and held.until == until for held in self._find_pauses(connector))

        await self._await_heeded(is_so)
        return changed

    async def resume(self, connector: str) -> bool:
        """Resume a connector; return False if it was not paused. Returns when the lane obeys.

        Raises LookupError, OSError if the lane does not obey in time, Unavailable.
        """
        self._check(connector)
        changed = await ADMIN.run(self.store.pauses.resume, connector)
        await self._await_heeded(lambda: not any(self._find_pauses(connector)))
        return changed

    async def _await_heeded(self, is_so: Callable[[], bool]) -> None:
        """Wait until the lane obeys. Raises OSError after HEED_S."""
        try:
            async with asyncio.timeout(HEED_S):
                while not is_so():  # noqa: ASYNC110  the database tells the lane
                    await asyncio.sleep(HEED_LOOK_S)
        except TimeoutError:
            raise OSError("relay has saved the request, but the connector has not obeyed yet: see the log") from None

    async def try_now(self, connector: str) -> bool:
        """Make a waiting connector try again at once; return False if it does not wait. Raises LookupError."""
        self._check(connector)
        tried = [partition.fleet.try_now(connector) for partition in self._partitions]
        return any(tried)

    def _check(self, connector: str) -> None:
        """Check that a connector runs, or that a reload is adding it. Raises LookupError."""
        if connector not in self.config.connectors:
            self._partitions.find_lanes(connector)

    async def forget(self, connector: str) -> Forgotten:
        """Remove everything of an unconfigured connector, between two reloads.

        Raises LookupError, ValueError if the connector is configured, Unavailable.
        """
        async with self.changing:
            return await forget_removed(self.store, connector, self.config.connectors)

    def _find_pauses(self, connector: str) -> list[Pause | None]:
        """Return how each lane of a connector is paused. A lane that a reload is making anew is held from the start."""
        return [lane.destination.breaker.held for lane in self._partitions.lanes if lane.name == connector]

    async def status(self, *, own: bool = False) -> Status:
        """Return the status. With several workers the supervisor reads the store, and with shared partitions the
        process that announces does, unless it has lately found the store unavailable.

        `own`: without parked events, erasures and doubts, which are in the store.
        """
        announces = self._alone and self._announcer.announces and self._partitions.unreachable_since is None
        if own or not announces:
            mine = await self._looks.read_status(self.config, self.restart)
            return replace(mine, alerts=self.alerts.statuses, refused_reload=self.refused_reload, announces=announces)
        others = await read_retired(self.store, {0}, self.config)
        mine = await self._looks.read_status(self.config, self.restart)
        others = [keep_configured(one, self.config) for one in others]  # a reload may have ended
        whole = await merge_with_stored(self.store, [mine, *others], self.config.parked.max_size)
        return replace(whole, alerts=self.alerts.statuses, refused_reload=self.refused_reload)
