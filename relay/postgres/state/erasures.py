"""The erasures of one partition, as the holder of its lease reads and changes them."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from relay.api import User
from relay.postgres.connection import Database
from relay.postgres.overwrite import overwrite_deleted
from relay.postgres.state import erasure_progress as progress
from relay.postgres.state.erasure_queries import find_failing_at_connectors, read_erasures
from relay.postgres.state.erasure_rows import PERSONAL, erase_users, find_removed_connectors
from relay.postgres.state.parked import read_bodies
from relay.store import ConnectorAnswer, Counts, Erasure, FailingErasures, Wanted
from relay.threads import ADMIN

if TYPE_CHECKING:
    from relay.postgres.state.state import PostgresState


class PostgresErasures:
    """The erasures in the tables of one partition. See `relay.store.Erasures`."""

    def __init__(self, state: "PostgresState", database: Database) -> None:
        self._state, self._partition, self._database = state, state.worker, database

    async def read_watch_position(self) -> int | None:
        """Return the offset below which the log was searched for requests; None: it never was."""
        return await self._state.run(lambda db: progress.read_watch_position(db, self._partition))

    async def save_watch(self, position: int, asked: Sequence[Erasure], identities: Sequence[tuple[str, str]]) -> None:
        """Save the searched position, the requested erasures, and user ids with their external ids."""
        await self._state.run_once(lambda db: progress.save_watch(db, self._partition, position, asked, identities))

    async def read_open(self) -> list[Erasure]:
        """Return the erasures that are not done, the last one first."""
        return await self._state.read(lambda db: read_erasures(db, self._partition, "done IS NULL"))

    async def read_at_connectors(self) -> list[Erasure]:
        """Return the open erasures whose users log and tables no longer hold, and whose ids are known."""
        named = "user_id IS NOT NULL OR external_ids <> '[]' OR other_ids <> '[]'"
        condition = f"done IS NULL AND compacted IS NOT NULL AND ({named})"
        return await self._state.run(lambda db: read_erasures(db, self._partition, condition))

    async def correct_asked(self, now: float, latest: float) -> None:
        """Set the time of open erasures requested later than `latest` to `now`. Times are Unix seconds."""
        await self._state.run(lambda db: progress.correct_asked(db, self._partition, now, latest))

    async def find_external_ids(self, user_id: str | None) -> set[str]:
        """Return the external ids that were saved for a user id."""
        return await self._state.run(lambda db: progress.find_external_ids(db, self._partition, user_id))

    async def find_parked_ids(self, wanted: Wanted) -> dict[int, User]:
        """Find further ids of the users in parked events, by the number of the erasure."""
        return await self._state.read(lambda db: wanted.find_more_ids(read_bodies(db, self._partition)))

    async def save_found_ids(self, found: Mapping[int, User]) -> list[Erasure]:
        """Add the ids of users to their erasures; return these erasures."""
        return await self._state.run(lambda db: progress.save_found_ids(db, self._partition, found))

    async def share(self, erasures: Sequence[Erasure]) -> None:
        """Make all other partitions erase these users with these ids, too."""
        await self._state.run(lambda db: progress.share_erasures(db, self._partition, erasures))

    async def add_counts(self, counts: Mapping[str, Mapping[int, int]], until: int) -> None:
        """Add to the counts of erasures. Events below the offset `until` are counted from now on."""
        await self._state.run_once(lambda db: progress.add_counts(db, self._partition, counts, until))

    async def erase_users(self, connector: str | None, wanted: Wanted, offsets: Mapping[int, frozenset[int]]) -> Counts:
        """Erase users from the rows of a connector, or with None from the sources' rows; return the change of the
        counts in the connector's cursor. `offsets`: the users by offset of their events in the log."""
        return await self._state.run_once(lambda db: erase_users(db, self._partition, connector, wanted, offsets))

    async def find_removed_connectors(self, running: Sequence[str]) -> list[str]:
        """Return the connectors that do not run but have parked events or attempts."""
        return await self._state.run(lambda db: find_removed_connectors(db, self._partition, running))

    async def overwrite_deleted(self) -> None:
        """Remove what was deleted from all files but the write-ahead log. Raises Unavailable also while somebody
        reads."""
        await ADMIN.run(overwrite_deleted, self._database, PERSONAL)

    async def save_problem(self, numbers: Collection[int], problem: str) -> None:
        """Save why users could not be removed from log and tables."""
        await self._state.run(lambda db: progress.save_problem(db, self._partition, numbers, problem))

    async def mark_erased(self, erasures: Sequence[Erasure]) -> None:
        """Mark that log and tables hold none of these users. Erasures with new ids begin again, and count on."""
        await self._state.run(lambda db: progress.mark_erased(db, self._partition, erasures))

    async def find_held_elsewhere(self, connector: str, numbers: Collection[int]) -> dict[int, bool]:
        """Find the erasures that a connector must not get yet, because the holder of another partition may still write
        there."""
        return await self._state.run(lambda db: progress.find_held_elsewhere(db, self._partition, connector, numbers))

    async def save_answers(self, asked: Sequence[Erasure], answers: Mapping[int, ConnectorAnswer]) -> None:
        """Save the answers of a connector, except to erasures that have begun again or got other ids meanwhile."""
        await self._state.run_once(lambda db: progress.save_answers(db, self._partition, asked, answers))

    async def find_failing_at_connectors(self) -> list[FailingErasures]:
        """Return the open erasures that fail at connectors."""
        return await self._state.run(find_failing_at_connectors)

    async def forget_failed(self) -> None:
        """Forget all failed answers of connectors."""
        await self._state.run(lambda db: progress.forget_failed(db, self._partition))

    async def forget_ids(self, numbers: Collection[int]) -> None:
        """Delete the ids of these users. The receipts stay."""
        await self._state.run(lambda db: progress.forget_ids(db, self._partition, numbers))

    async def mark_done(self, numbers: Collection[int]) -> None:
        """Mark erasures as done."""
        await self._state.run(lambda db: progress.mark_done(db, self._partition, numbers))
