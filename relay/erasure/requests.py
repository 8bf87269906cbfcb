"""Reads the journal for events that request an erasure and, if configured, for the identities of users.

Failure and recovery: findings and position are saved in one transaction, so no request is lost or noticed twice. The
journal keeps what is still unread. Damage is skipped, as a lane skips it.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Final

import structlog

from relay.api import Block
from relay.config import ErasureSettings
from relay.store import Erasure, Log, State, Unavailable, find_user

SAVE_S: Final = 1.0
AGAIN_S: Final = 10.0
REMEMBERED: Final = 50_000
"""Identities that are remembered, so that they are not saved again."""
log = structlog.stdlib.get_logger()


class ErasureWatch:
    """Reads every event of the journal once."""

    def __init__(self, journal: Log, state: State, settings: ErasureSettings) -> None:
        self._journal, self._state, self._erasures = journal, state, state.erasures
        self._on, self._identities = frozenset(settings.on), settings.identities
        self._remembered: set[tuple[str, str]] = set()
        self._saved_at = 0.0
        self.position = 0
        """The offset below which the journal is no longer needed."""

    @property
    def is_needed(self) -> bool:
        """Whether any event has to be read."""
        return bool(self._on or self._identities)

    async def open(self) -> None:
        """Load the saved position, or begin where a new connector would begin. Raises Unavailable."""
        found = await self._erasures.read_watch_position()
        new = self._journal.head if self._state.now is None else self._state.now
        self.position = new if found is None else min(found, self._journal.head)
        await self._save(self.position, [], [])

    async def run(self) -> None:
        """Read all events as they come, for ever."""
        while True:
            try:
                with closing(self._journal.open_reader()) as reader:
                    while True:
                        blocks = await reader.read(self.position)
                        asked = [one for block in blocks for one in self._find_requests(block)] if self._on else []
                        known = self._find_new_pairs(blocks) if self._identities else []
                        if asked or known or time.monotonic() > self._saved_at + SAVE_S:
                            await self._save(reader.offset, asked, known)
                        self.position = reader.offset
            except Exception as error:  # the text of a bug might name a user
                said = str(error) if isinstance(error, Unavailable) else type(error).__name__
                log.error("looking for erasures failed, goes on", in_s=AGAIN_S, error=said)
                await asyncio.sleep(AGAIN_S)

    async def _save(self, position: int, asked: Sequence[Erasure], known: Sequence[tuple[str, str]]) -> None:
        await self._erasures.save_watch(position, asked, known)
        self._saved_at = time.monotonic()
        if asked:
            log.info("erasures asked for", users=len(asked))

    def _find_requests(self, block: Block) -> Iterator[Erasure]:
        asks = [kind.type in self._on and not kind.is_erased for kind in block.kinds]
        if not any(asks):
            return
        for event in block.events():
            if event.type not in self._on or event.kind.is_erased:
                continue
            user = find_user(event.body)
            if not user.user_id and not user.external_ids:
                log.warning("an event asks for an erasure but names no user", offset=event.offset, type=event.type)
                continue
            yield Erasure(asked=time.time(), type=event.type, source=event.source, offset=event.offset, user=user)

    def forget(self) -> None:
        """Forget the remembered identities, so that those of erased users are saved again when they come again."""
        self._remembered.clear()

    def _find_new_pairs(self, blocks: Sequence[Block]) -> list[tuple[str, str]]:
        """Find user ids with external ids that are not known yet."""
        users = map(find_user, (body for block in blocks for body in block.bodies()))
        found = {(user.user_id, one) for user in users if user.user_id for one in user.external_ids}
        fresh = found - self._remembered
        if len(self._remembered) + len(fresh) > REMEMBERED:
            self._remembered.clear()
        self._remembered |= fresh
        return [*fresh]
