"""Reads the journal for events that ask for an erasure, and, if that is wanted, for the identities of users.

How it fails and recovers: what it finds and how far it has read are saved in one transaction, so no request is lost or
noticed twice. What it has not read, the journal keeps. What is damaged it passes over, as a lane does.
"""

import asyncio
import sqlite3
import time
from collections.abc import Iterator, Sequence
from typing import Final

import structlog

from relay.api import Block
from relay.config import ErasureSettings
from relay.journal import Corrupt, Journal, user_of
from relay.state import Erasure, State, read_watch_position, save_watch

SAVE_S: Final = 1.0
AGAIN_S: Final = 10.0
REMEMBERED: Final = 50_000
"""Identities that are not written down once more."""
log = structlog.stdlib.get_logger()


class ErasureWatch:
    """Looks at every event of the journal once."""

    def __init__(self, journal: Journal, state: State, settings: ErasureSettings) -> None:
        self._journal, self._state = journal, state
        self._on, self._identities = frozenset(settings.on), settings.identities
        self._remembered: set[tuple[str, str]] = set()
        self._saved_at = 0.0
        self.position = 0
        """What lies below it is of no interest any more."""

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to look for."""
        return bool(self._on or self._identities)

    async def open(self) -> None:
        """Find its place: where it was, or, the first time, as a connector that begins now. Raises sqlite3.Error."""
        found = await self._state.look(read_watch_position)
        new = self._journal.head if self._state.now is None else self._state.now
        self.position = new if found is None else min(found, self._journal.head)
        await self._save(self.position, [], [])

    async def run(self) -> None:
        """Look at all events that come, for ever."""
        while True:
            try:
                await self._run()
            except Exception as error:  # the text of a bug might name a user
                said = str(error) if isinstance(error, sqlite3.Error | OSError | Corrupt) else type(error).__name__
                log.error("looking for erasures failed, goes on", in_s=AGAIN_S, error=said)
                await asyncio.sleep(AGAIN_S)

    async def _run(self) -> None:
        reader = self._journal.reader()
        try:
            while True:
                blocks = await reader.read(self.position)
                asked = [one for block in blocks for one in self._asked(block)] if self._on else []
                known = self._known(blocks) if self._identities else []
                if asked or known or time.monotonic() > self._saved_at + SAVE_S:
                    await self._save(reader.offset, asked, known)
                self.position = reader.offset
        finally:
            reader.close()

    async def _save(self, position: int, asked: Sequence[Erasure], known: Sequence[tuple[str, str]]) -> None:
        await self._state.run(lambda db: save_watch(db, position, asked, known))
        self._saved_at = time.monotonic()
        if asked:
            log.info("erasures asked for", users=len(asked))

    def _asked(self, block: Block) -> Iterator[Erasure]:
        asks = [kind.type in self._on and not kind.is_erased for kind in block.kinds]
        if not any(asks):
            return
        for event in block.events():
            if event.type not in self._on or event.kind.is_erased:
                continue
            user = user_of(event.body)
            if not user.user_id and not user.external_ids:
                log.warning("an event asks for an erasure but names no user", offset=event.offset, type=event.type)
                continue
            yield Erasure(asked=time.time(), type=event.type, source=event.source, offset=event.offset, user=user)

    def forget(self) -> None:
        """Users were erased: whose pairs come again are written down again."""
        self._remembered.clear()

    def _known(self, blocks: Sequence[Block]) -> list[tuple[str, str]]:
        """User ids with their external ids that are not known yet."""
        users = map(user_of, (body for block in blocks for body in block.bodies()))
        found = {(user.user_id, one) for user in users if user.user_id for one in user.external_ids}
        fresh = found - self._remembered
        if len(self._remembered) + len(fresh) > REMEMBERED:
            self._remembered.clear()
        self._remembered |= fresh
        return [*fresh]
