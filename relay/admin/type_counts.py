"""Keeps what was counted of the journal, so that a part that cannot change any more is read once."""

import asyncio
import time
from typing import Final

import msgspec

from relay.admin.question_process import QuestionProcess
from relay.inspect import FoundCounts, JournalTypes, PartCount, merge_counts

HOUR_S: Final = 3600.0


class TypeCounts:
    """The event types in the journal, counted by a process that reads for a limited time."""

    def __init__(self, process: QuestionProcess) -> None:
        self._process = process
        self._known: dict[str, PartCount] = {}
        self._turn = asyncio.Lock()

    async def read(self, since: float | None = None) -> JournalTypes:
        """Return the counts from an hour on; by default of the last day. `since` in Unix seconds. Raises OSError."""
        given = time.time() - 24 * HOUR_S if since is None else since
        hour = given // HOUR_S * HOUR_S
        async with self._turn:
            stamps = {key: part.stamp for key, part in self._known.items()}
            answer = await self._process.answer("types", since=hour, known=stamps)
            found = msgspec.json.decode(answer, type=FoundCounts)
            now = self._known | {part.key: part for part in found.counted}
            now = {key: now[key] for key in found.present if key in now}
            self._known = {key: part for key, part in now.items() if part.stamp}
        return merge_counts(now.values(), hour, found.unread, found.problems)
