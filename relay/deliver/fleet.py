"""All lanes: started together, stopped together, their cursors saved together.

Cursors are saved every SAVE_S, and sooner when a lane's window is full, in one transaction for all lanes. If saving
fails, lanes go on until their windows are full and then wait: what could be sent twice stays bounded.
"""

import asyncio
import sqlite3
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from relay.api import Connector, ConnectorSettings, Filter, FilterSettings
from relay.catalogue import Selection
from relay.config import Config, Configured
from relay.deliver.lane import LiveLane, Snapshot
from relay.deliver.replays import Replays
from relay.journal import Cursor, Journal, State, unsettled
from relay.route import Route

SAVE_S: Final = 0.25
LOOK_S: Final = 0.5
"""How soon it is noticed that an admin wants events delivered once more."""
RELEASE_S: Final = 5.0
TIDY_S: Final = 60.0
NEARLY_FULL: Final = 0.8
FULL_ADVICE: Final = "this connector holds its events; once the journal is full, senders are refused with 503"
log = structlog.stdlib.get_logger()


class Fleet:
    """The lanes of a configuration."""

    def __init__(self, journal: Journal, state: State, folder: Path, worker: int = 0) -> None:
        self._worker = worker
        self._journal, self._state, self._folder = journal, state, folder
        self.lanes: list[LiveLane] = []
        self._replays = Replays(state)
        self._stopping = asyncio.Event()
        self._save_now = asyncio.Event()
        self._saved: dict[str, tuple[Cursor, int]] = {}
        self._kept, self._kept_at = -1, 0.0
        self._tidied_at = 0.0

    async def open(self, config: Config) -> None:
        """Make and open the connectors, and give each lane its cursor. Raises what a connector's `open` raises."""
        for configured in config.connectors.values():
            cursor = await self._cursor(configured.name, configured.settings.from_)
            self.lanes.append(self._lane(configured, config.filters, cursor))
            await self.lanes[-1].connector.open()
        await self._replays.look(self.lanes)
        await self._tell_abandoned()
        await self.save()

    async def _tell_abandoned(self) -> None:
        """Say which connectors are no longer configured but have events to come: the journal does not wait for them."""
        running = {lane.name for lane in self.lanes}
        for connector, pending in (await self._state.pending(self._journal.head)).items():
            if connector not in running and pending:
                advice = "configure it again under this name to have them delivered; they expire when space is needed"
                log.warning(
                    "connector is gone but has events to come", connector=connector, pending=pending, advice=advice
                )

    def _lane(
        self,
        configured: Configured[Connector, ConnectorSettings],
        filters: Mapping[str, Configured[Filter, FilterSettings]],
        cursor: Cursor,
    ) -> LiveLane:
        settings = configured.settings
        steps = [filters[name].plugin(name, filters[name].settings) for name in settings.filters]
        connector = configured.plugin(configured.name, settings, folder=self._folder)
        connector.worker = self._worker
        route = Route(Selection(settings.events), steps)
        return LiveLane(
            connector, settings, route, cursor, journal=self._journal, state=self._state, save_soon=self._save_now.set
        )

    async def _cursor(self, connector: str, start: str | float) -> Cursor:
        head = self._journal.head
        cursor = await self._state.cursor(connector)
        if cursor is None:
            offset = await self._journal.offset_of(start)
            return Cursor(offset, offset)
        if max([cursor.position, *(stop for _, stop in cursor.ahead)]) > head:
            log.error("the journal is older than the cursor; starting at its head", connector=connector, head=head)
            return Cursor(head, head)
        await self._unpark_pending(connector, cursor)
        return cursor

    async def _unpark_pending(self, connector: str, cursor: Cursor) -> None:
        """What was parked right before a crash, and is not settled by the saved cursor, is about to be tried again."""
        oldest = max(cursor.position, self._journal.oldest)
        await self._state.unpark(connector, unsettled(oldest, self._journal.head, cursor.ahead))

    async def run(self) -> None:
        """Run all lanes until `stop`, then until their deliveries under way have ended; cancel it to end those too.

        At the end the cursors are saved and the connectors closed."""
        try:
            async with asyncio.TaskGroup() as group:
                saving = group.create_task(self._keep_saving(), name="save cursors")
                async with asyncio.TaskGroup() as lanes:
                    for lane in self.lanes:
                        lanes.create_task(lane.run(), name=f"lane {lane.name}")
                    looking = lanes.create_task(self._keep_looking(lanes), name="look for what admins ask")
                    await self._stopping.wait()
                    looking.cancel()
                saving.cancel()
        finally:
            await self._close()

    async def _close(self) -> None:
        try:
            await self.save()
        except (sqlite3.Error, OSError) as error:
            advice = "what was delivered since the last save is delivered again after the next start"
            log.error("saving the cursors failed at the stop", error=str(error), advice=advice)
        finally:
            for lane in self.lanes:
                await self._release(lane.connector)

    async def _release(self, connector: Connector) -> None:
        try:
            async with asyncio.timeout(RELEASE_S):
                await connector.release()
        except Exception as error:
            log.error("connector did not close", connector=connector.name, exc_info=error)

    def stop(self) -> None:
        """Begin nothing new."""
        self._stopping.set()
        for lane in self.lanes:
            lane.stop()
        self._replays.stop()

    async def _keep_saving(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(SAVE_S):
                    await self._save_now.wait()
            self._save_now.clear()
            try:
                await self.save()
            except (sqlite3.Error, OSError) as error:
                log.error("saving the cursors failed, will be tried again", error=str(error))
                await asyncio.sleep(SAVE_S)

    async def _keep_looking(self, group: asyncio.TaskGroup) -> None:
        """See what admins ask for whenever another process has changed the database."""
        self._replays.start(group)
        seen = -1
        while True:
            try:
                version = await self._state.version()
                if version != seen:
                    await self._look(group)
                seen = version
            except sqlite3.Error as error:
                log.error("looking for what admins ask failed, will be tried again", error=str(error))
            await asyncio.sleep(LOOK_S)

    async def _look(self, group: asyncio.TaskGroup) -> None:
        for lane in self.lanes:
            lane.look_for_parked()
        await self._replays.look(self.lanes)
        self._replays.start(group)

    @property
    def alone(self) -> list[Selection]:
        """What the connectors want of which one process has to deliver all."""
        return [lane.selection for lane in self.lanes if lane.connector.alone]

    @property
    def pending(self) -> int:
        """Events that some lane has no outcome for yet."""
        return sum(lane.cursor.ledger(self._journal.head).pending for lane in self.lanes)

    async def save(self) -> None:
        """Save the cursors that have moved, and tell the journal what is still needed."""
        head = self._journal.head
        live = {lane: lane.snapshot() for lane in self.lanes}
        replays = self._replays.snapshots()
        await self._write(head, live, replays)
        for lane, snapshot in live.items():
            lane.saved(snapshot)
        self._replays.saved(replays)
        await self._keep(min((snapshot.cursor.position for snapshot in live.values()), default=head))

    async def _write(self, head: int, live: Mapping[LiveLane, Snapshot], replays: Mapping[int, Snapshot]) -> None:
        cursors = {lane.name: snapshot.cursor for lane, snapshot in live.items()}
        changed = {name: cursor for name, cursor in cursors.items() if self._saved.get(name) != (cursor, head)}
        again = [one for snapshot in live.values() for one in snapshot.delivered_again]
        attempts = [one for snapshot in live.values() for one in snapshot.attempts]
        if changed or replays or again or attempts:
            others = {number: snapshot.cursor for number, snapshot in replays.items()}
            await self._state.save(changed, head, again, others, attempts)
            self._saved |= {name: (cursor, head) for name, cursor in changed.items()}

    def _tell_if_full(self, needed: int) -> None:
        fill = self._journal.fill(needed)
        if fill > NEARLY_FULL:
            slowest = min(self.lanes, key=lambda lane: lane.cursor.position).name
            pending = self._journal.head - needed
            log.error("journal fills up", used=f"{fill:.0%}", connector=slowest, pending=pending, advice=FULL_ADVICE)

    async def _keep(self, needed: int) -> None:
        """Tell the journal, if there is news or something may have grown old."""
        if self.lanes:
            self._tell_if_full(needed)
        now = time.monotonic()
        if needed != self._kept or now - self._kept_at > TIDY_S:
            await self._journal.keep(needed, min(needed, self._replays.position(needed)))
            self._kept, self._kept_at = needed, now
        if now - self._tidied_at > TIDY_S:
            self._tidied_at = now
            await self._state.forget_attempts(self._journal.oldest)
