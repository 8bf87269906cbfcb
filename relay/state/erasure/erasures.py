"""The erasures of one worker, as the daemon reads and changes them."""

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import structlog

from relay.api import User
from relay.journal import is_locked
from relay.state.database_file import convert_errors
from relay.state.erasure import table
from relay.state.erasure.rows import erase_users, find_removed_connectors
from relay.state.layout import list_other_folders
from relay.state.parked import read_bodies
from relay.store import ConnectorAnswer, Counts, Erasure, FailingErasures, Unavailable, Wanted
from relay.threads import ADMIN

if TYPE_CHECKING:
    from relay.state.database import StateDatabase

log = structlog.stdlib.get_logger()


class DatabaseErasures:
    """The erasures in the database of one worker."""

    def __init__(self, database: "StateDatabase") -> None:
        self._database = database

    async def read_watch_position(self) -> int | None:
        """Return the offset below which the journal was searched for requests; None: it never was."""
        return await self._database.read(table.read_watch_position)

    async def save_watch(self, position: int, asked: Sequence[Erasure], identities: Sequence[tuple[str, str]]) -> None:
        """Save the searched position, the requested erasures, and user ids with their external ids."""
        await self._database.run(lambda db: table.save_watch(db, position, asked, identities))

    async def read_open(self) -> list[Erasure]:
        """Return the erasures that are not done, the last one first."""
        return await self._database.read(lambda db: table.read_erasures(db, "done IS NULL"))

    async def read_at_connectors(self) -> list[Erasure]:
        """Return the open erasures whose users journal and tables no longer hold, and whose ids are known."""
        named = "user_id NOT NULL OR external_ids != '[]' OR other_ids != '[]'"
        condition = f"done IS NULL AND compacted NOT NULL AND ({named})"
        return await self._database.read(lambda db: table.read_erasures(db, condition))

    async def correct_asked(self, now: float, latest: float) -> None:
        """Set the time of open erasures requested later than `latest` to `now`. Times are Unix seconds."""
        await self._database.run(lambda db: table.correct_asked(db, now, latest))

    async def find_external_ids(self, user_id: str | None) -> set[str]:
        """Return the external ids that were saved for a user id."""
        return await self._database.read(lambda db: table.find_external_ids(db, user_id))

    async def find_parked_ids(self, wanted: Wanted) -> dict[int, User]:
        """Find further ids of the users in parked events, by the number of the erasure."""
        return await self._database.read(lambda db: wanted.find_more_ids(read_bodies(db)))

    async def save_found_ids(self, found: Mapping[int, User]) -> list[Erasure]:
        """Add the ids of users to their erasures; return these erasures."""
        return await self._database.run(lambda db: table.save_found_ids(db, found))

    async def share(self, erasures: Sequence[Erasure]) -> None:
        """Make all other workers erase these users with these ids, too."""
        mine = self._database
        with convert_errors():
            for folder in await ADMIN.run(list_other_folders, mine.folder, mine.worker):
                await ADMIN.run(table.share_erasures, folder, erasures)
                if not is_locked(folder):
                    log.warning("a worker that does not run erases at its next start", folder=str(folder))

    async def add_counts(self, counts: Mapping[str, Mapping[int, int]], until: int) -> None:
        """Add to the counts of erasures. Events below the offset `until` are counted from now on."""
        await self._database.run(lambda db: table.add_counts(db, counts, until))

    async def erase_users(self, connector: str | None, wanted: Wanted, offsets: Mapping[int, frozenset[int]]) -> Counts:
        """Erase users from the rows of a connector, or with None from the sources' rows; return the change of the
        counts in the connector's cursor. `offsets`: the users by offset of their events in the journal."""
        return await self._database.run(lambda db: erase_users(db, connector, wanted, offsets))

    async def find_removed_connectors(self, running: Sequence[str]) -> list[str]:
        """Return the connectors that do not run but have parked events or attempts."""
        return await self._database.read(lambda db: find_removed_connectors(db, running))

    async def overwrite_deleted(self) -> None:
        """Overwrite what was deleted, so that no file holds it. Raises Unavailable also while somebody reads."""
        if not await self._database.vacuum():
            raise Unavailable("another process is reading relay.db", "busy")

    async def save_problem(self, numbers: Collection[int], problem: str) -> None:
        """Save why users could not be removed from journal and tables."""
        await self._database.run(lambda db: table.mark_compacted(db, numbers, problem))

    async def mark_erased(self, erasures: Sequence[Erasure]) -> None:
        """Mark that journal and tables hold none of these users. Erasures with new ids begin again, and count on."""
        await self._database.run(lambda db: table.mark_erased(db, erasures))

    async def find_held_elsewhere(self, connector: str, numbers: Collection[int]) -> dict[int, bool]:
        """Find the erasures that a connector must not get yet, because another running worker may still write there."""
        with convert_errors():
            return await ADMIN.run(table.find_held_elsewhere, self._database.folder, connector, numbers)

    async def save_answers(self, asked: Sequence[Erasure], answers: Mapping[int, ConnectorAnswer]) -> None:
        """Save the answers of a connector, except to erasures that have begun again or got other ids meanwhile."""

        def save(db: sqlite3.Connection) -> None:
            unchanged = table.find_unchanged(db, asked)
            table.save_answers(db, {number: answers[number] for number in unchanged if number in answers})

        await self._database.run(save)

    async def find_failing_at_connectors(self) -> list[FailingErasures]:
        """Return the open erasures that fail at connectors."""
        return await self._database.read(table.find_failing_at_connectors)

    async def forget_failed(self) -> None:
        """Forget all failed answers of connectors."""
        await self._database.run(table.forget_failed)

    async def forget_ids(self, numbers: Collection[int]) -> None:
        """Delete the ids of these users. The receipts stay."""
        await self._database.run(lambda db: table.forget_ids(db, numbers))

    async def mark_done(self, numbers: Collection[int]) -> None:
        """Mark erasures as done."""
        await self._database.run(lambda db: table.mark_done(db, numbers))
