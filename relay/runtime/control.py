"""What admins see of this process, and have it do."""

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
from relay.journal import Journal
from relay.runtime.state_folder import doubts_in, failing_erasures_in, forgotten, parked_in
from relay.runtime.status import Looks
from relay.state import Entry, Forgotten, Pause, pause_connector, resume_connector
from relay.status import RefusedReload, ReloadResult, Status, configured, merged, retired
from relay.threads import ADMIN

HEED_S: Final = 5.0
"""How long a lane may take to heed a pause."""
HEED_LOOK_S: Final = 0.02


class View:
    """The daemon as `relay.admin` wants it."""

    def __init__(
        self,
        config: Config,
        folder: Path,
        looks: Looks,
        fleet: Fleet,
        journal: Journal,
        reload: Callable[..., Coroutine[Any, Any, ReloadResult]],
        note: Callable[[Entry], None],
        *,
        alone: bool,
    ) -> None:
        """`alone`: this process is all that runs with the state folder. `note` has an entry be written into the
        history."""
        self._alone, self._path = alone, config.journal.path  # for good: a new path takes a restart
        self.config, self.folder, self.reload, self.note = config, folder, reload, note
        self.alerts = Alerts(folder)
        self._looks, self._fleet, self._journal = looks, fleet, journal
        self.changing = asyncio.Lock()
        """Held while the configuration changes."""
        self.restart: Sequence[str] = ()
        """What waits for a restart since the last reload."""
        self.refused_reload: RefusedReload | None = None

    @asynccontextmanager
    async def tap(self, at: str, entries: Sequence[str]) -> AsyncIterator[AsyncIterator[bytes]]:
        """What passes at "ingest", or at a connector behind its filters, as NDJSON. Raises LookupError."""
        taps = self._journal.taps if at == "ingest" else self._fleet.lane(at).taps
        tap = Tap(Selection(entries))
        taps.add(tap)
        try:
            yield tap.portions()
        finally:
            taps.discard(tap)

    async def pause(self, connector: str, until: float | None) -> bool:
        """Have a connector hold its events, until a time (Unix seconds) or until it is resumed; False if it does so
        already, as long. Returns when that is heeded.

        Raises LookupError, OSError (it is not heeded yet), sqlite3.Error."""
        self._check(connector)
        changed = await ADMIN.run(pause_connector, self.folder, connector, until)

        def is_so() -> bool:
            held = self._held(connector)
            return (held is not None and held.until == until) or (until is not None and until <= time.time())

        await self._heeded(is_so)
        return changed

    async def resume(self, connector: str) -> bool:
        """Have a connector go on; False if it was not paused. Returns when that is heeded.

        Raises LookupError, OSError (it is not heeded yet), sqlite3.Error."""
        self._check(connector)
        changed = await ADMIN.run(resume_connector, self.folder, connector)
        await self._heeded(lambda: self._held(connector) is None)
        return changed

    async def _heeded(self, is_so: Callable[[], bool]) -> None:
        """Return once the lane does what the database has for it. Raises OSError."""
        try:
            async with asyncio.timeout(HEED_S):
                while not is_so():  # noqa: ASYNC110  the database tells the lane
                    await asyncio.sleep(HEED_LOOK_S)
        except TimeoutError:
            raise OSError("it is noted, but the lane has not heeded it yet: see the log") from None

    async def try_now(self, connector: str) -> bool:
        """Have a connector that waits for its destination try again at once; False if it does not wait. Raises
        LookupError."""
        self._check(connector)
        return self._fleet.try_now(connector)

    def _check(self, connector: str) -> None:
        """Raise LookupError unless a connector runs, or a reload is just adding it."""
        if connector not in self.config.connectors:
            self._fleet.lane(connector)

    async def forget(self, connector: str) -> Forgotten:
        """Let go of all that is kept of a connector that is not configured; not in the middle of a reload. Raises
        LookupError, ValueError (it is), OSError, sqlite3.Error."""
        async with self.changing:
            return await forgotten(self.folder, connector, self.config.connectors)

    def _held(self, connector: str) -> Pause | None:
        held = (lane.destination.breaker.held for lane in self._fleet.lanes if lane.name == connector)
        return next(held, None)  # a reload may just be making the lane anew: it is held from the start

    async def status(self) -> Status:
        """How everything is now. One of several workers leaves what is in the databases to the supervisor to count."""
        if not self._alone:
            mine = await self._looks.status(self.config, self.restart)
            return replace(mine, alerts=self.alerts.statuses, refused_reload=self.refused_reload)
        others = await retired(self.folder, {0}, self.config)
        parked, failing = await parked_in(self.folder), await failing_erasures_in(self.folder)
        mine = await self._looks.status(self.config, self.restart)
        others = [configured(one, self.config) for one in others]  # a reload may have ended
        doubts = await doubts_in(self.folder, self._path)
        whole = merged([mine, *others], parked, failing, doubts, parked_most=self.config.parked.max_size)
        return replace(whole, alerts=self.alerts.statuses, refused_reload=self.refused_reload)
