"""What the admin API shows of this process and makes it do."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from relay.admin import Tap
from relay.alerts import Alerts
from relay.catalogue import Selection
from relay.config import Config
from relay.deliver import Fleet
from relay.runtime.status import StatusReader
from relay.runtime.stored import find_doubts, find_failing_erasures, forget_removed, read_parked_totals
from relay.status import RefusedReload, ReloadResult, Status, keep_configured, merge_statuses, read_retired
from relay.store import Entry, Forgotten, Log, Pause, Store
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
        fleet: Fleet,
        journal: Log,
        reload: Callable[..., Coroutine[Any, Any, ReloadResult]],
        note: Callable[[Entry], None],
        *,
        alone: bool,
    ) -> None:
        """`alone`: no other process runs with the state folder. `note` writes an entry into the history."""
        self._alone = alone
        self.config, self.store, self.folder, self.reload, self.note = config, store, folder, reload, note
        self.alerts = Alerts(store.alerts)
        self._looks, self._fleet, self._journal = looks, fleet, journal
        self.changing = asyncio.Lock()
        """Held while the configuration changes."""
        self.restart: Sequence[str] = ()
        """Changes since the start that wait for a restart."""
        self.refused_reload: RefusedReload | None = None

    @asynccontextmanager
    async def tap(self, at: str, entries: Sequence[str]) -> AsyncIterator[AsyncIterator[bytes]]:
        """Yield the events at "ingest", or at a connector behind its filters, as NDJSON. Raises LookupError."""
        taps = self._journal.taps if at == "ingest" else self._fleet.find_lane(at).taps
        tap = Tap(Selection(entries))
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
            held = self._find_pause(connector)
            return (held is not None and held.until == until) or (until is not None and until <= time.time())

        await self._await_heeded(is_so)
        return changed

    async def resume(self, connector: str) -> bool:
        """Resume a connector; return False if it was not paused. Returns when the lane obeys.

        Raises LookupError, OSError if the lane does not obey in time, Unavailable.
        """
        self._check(connector)
        changed = await ADMIN.run(self.store.pauses.resume, connector)
        await self._await_heeded(lambda: self._find_pause(connector) is None)
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
        return self._fleet.try_now(connector)

    def _check(self, connector: str) -> None:
        """Check that a connector runs, or that a reload is adding it. Raises LookupError."""
        if connector not in self.config.connectors:
            self._fleet.find_lane(connector)

    async def forget(self, connector: str) -> Forgotten:
        """Remove everything of an unconfigured connector, between two reloads.

        Raises LookupError, ValueError if the connector is configured, Unavailable.
        """
        async with self.changing:
            return await forget_removed(self.store, connector, self.config.connectors)

    def _find_pause(self, connector: str) -> Pause | None:
        held = (lane.destination.breaker.held for lane in self._fleet.lanes if lane.name == connector)
        return next(held, None)  # a reload may just be making the lane anew: it is held from the start

    async def status(self) -> Status:
        """Return the status. With several workers the supervisor reads the store."""
        if not self._alone:
            mine = await self._looks.read_status(self.config, self.restart)
            return replace(mine, alerts=self.alerts.statuses, refused_reload=self.refused_reload)
        others = await read_retired(self.store, {0}, self.config)
        parked, failing = await read_parked_totals(self.store), await find_failing_erasures(self.store)
        mine = await self._looks.read_status(self.config, self.restart)
        others = [keep_configured(one, self.config) for one in others]  # a reload may have ended
        doubts = await find_doubts(self.store)
        whole = merge_statuses([mine, *others], parked, failing, doubts, parked_most=self.config.parked.max_size)
        return replace(whole, alerts=self.alerts.statuses, refused_reload=self.refused_reload)
