"""Passes events on disk to the sources that watch theirs, where all processes share the partitions.

All events of such a source are in partition 0, whichever process took them in. The process that runs partition 0 reads
them, and passes them to its source. The sources of the other processes watch nothing.

How it fails and recovers: the place up to which events were passed is saved after the memories of the sources. So a
crash passes some events a second time, and loses none. While nothing can be read or saved, relay tries again.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from typing import Any, Final

import structlog

from relay.api import Block
from relay.ingest.intake import Intake
from relay.store import Log, SourceState, Unavailable

SAVE_S: Final = 1.0
AGAIN_S: Final = 5.0
PLACE: Final = "/passed"
"""The name beside those of the sources, which have no slash, under which the place is saved."""
log = structlog.stdlib.get_logger()


class SourceWatch:
    """Passes the events of partition 0 to the sources that watch theirs."""

    def __init__(self, journal: Log, state: SourceState, intakes: Callable[[], Iterable[Intake]]) -> None:
        """`intakes` returns the intakes of the sources in force."""
        self._journal, self._state, self._intakes = journal, state, intakes
        self._saved: dict[str, str] = {}

    def _list_watching(self) -> dict[str, Intake]:
        return {intake.source.name: intake for intake in self._intakes() if intake.source.watches}

    async def run(self) -> None:
        """Pass events on until cancelled. The sources of this process watch nothing after that."""
        try:
            while True:
                try:
                    if self._list_watching():
                        await self._read_on()
                except Unavailable as error:
                    if not error.is_logged:
                        log.error("events cannot be passed to their sources, will be tried again", error=str(error))
                await asyncio.sleep(AGAIN_S)
        finally:
            for intake in self._list_watching().values():
                intake.forget()

    async def _read_on(self) -> None:
        """Pass events on while there are sources that watch. Raises Unavailable."""
        self._saved = await self._state.read_memories()
        for name, intake in self._list_watching().items():
            if name in self._saved:
                intake.calls.recall(self._saved[name])
        place, saved_at = int(self._saved.get(PLACE, self._journal.oldest)), time.monotonic()
        with closing(self._journal.open_reader()) as reader:
            while watching := self._list_watching():
                with suppress(TimeoutError):
                    async with asyncio.timeout(SAVE_S):
                        for block in await reader.read(place):
                            _pass_on(block, watching)
                        place = reader.offset
                await self._save_memories(watching)
                if time.monotonic() > saved_at + SAVE_S:
                    await self._save(PLACE, str(place))
                    saved_at = time.monotonic()

    async def _save_memories(self, watching: dict[str, Intake]) -> None:
        for name, intake in watching.items():
            if (memory := intake.calls.remember()) is not None:
                await self._save(name, memory)

    async def _save(self, name: str, text: str) -> None:
        """Save a memory or the place, unless it is saved already."""
        if self._saved.get(name) != text:
            await self._state.save_memory(name, text)
            self._saved[name] = text


def _pass_on(block: Block, watching: dict[str, Intake]) -> None:
    """Pass the events of a block to their sources."""
    if watching.keys().isdisjoint(kind.source for kind in block.kinds):
        return
    found: dict[str, list[Any]] = {name: [] for name in watching}
    for body, index in zip(block.bodies(), block.index, strict=True):
        if (name := block.kinds[index].source) in found:
            found[name].append(body)
    for name, bodies in found.items():
        if bodies:
            watching[name].calls.kept(bodies)
