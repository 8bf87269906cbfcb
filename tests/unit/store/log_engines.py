"""The engines that the suite of the log runs on: each makes a log, and does to the log what a disk does."""

import asyncio
import errno
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from relay.journal.journal import Journal
from relay.journal.outside.view import JournalView
from relay.store.log import JournalLimits, Log
from tests.toy_store.log import ToyLog

LIMITS = JournalLimits(max_size=1 << 30, retention=3600)
REFUSAL = "the disk says no"


class LogEngine(ABC):
    """One log on one engine."""

    log: Log

    @abstractmethod
    def begin_part(self) -> None:
        """Let the next event begin another part of the log, where an engine keeps its events in parts."""

    @abstractmethod
    def hold(self) -> AbstractAsyncContextManager[asyncio.Event]:
        """Let no event become durable before the block ends; yield what is set when a commit waits for that."""

    @abstractmethod
    def refuse(self) -> AbstractContextManager[None]:
        """Let every commit fail until the block ends."""

    @abstractmethod
    def holds(self, text: bytes) -> bool:
        """Return whether anything that the engine keeps holds a text."""


class EmbeddedLog(LogEngine):
    """A journal on a real disk. `memory`: bytes of recent events in memory."""

    log: Journal

    def __init__(self, folder: Path, limits: JournalLimits, memory: int) -> None:
        self._folder, self._limits, self._memory = folder, limits, memory
        self.log = self._open()

    def _open(self) -> Journal:
        return Journal(self._folder / "journal", self._limits, self._memory)

    async def reopen(self) -> None:
        """Close the journal, and open it again."""
        await self.log.close()
        self.log = self._open()

    def begin_part(self) -> None:
        self.log._writer.seal(self.log.head)

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[asyncio.Event]:
        begun, may_sync, sync = asyncio.Event(), threading.Event(), os.fdatasync
        loop = asyncio.get_running_loop()

        def wait_and_sync(fd: int) -> None:
            loop.call_soon_threadsafe(begun.set)
            assert may_sync.wait(30)
            sync(fd)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(os, "fdatasync", wait_and_sync)
            try:
                yield begun
            finally:
                may_sync.set()
            await self.log.await_commit()

    @contextmanager
    def refuse(self) -> Iterator[None]:
        def fail(fd: int) -> None:
            raise OSError(errno.EIO, REFUSAL)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(os, "fdatasync", fail)
            yield

    def holds(self, text: bytes) -> bool:
        files = [path for path in self._folder.rglob("*") if path.is_file()]
        blocks = [block for _, block in JournalView(self._folder / "journal").read()]
        return any(text in path.read_bytes() for path in files) or any(text in block.body for block in blocks)


class InMemoryLog(LogEngine):
    """The toy."""

    log: ToyLog

    def __init__(self, limits: JournalLimits) -> None:
        self.log = ToyLog(limits)

    def begin_part(self) -> None:
        pass  # each append is a part

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[asyncio.Event]:
        disk = self.log.disk
        disk.answers.clear()
        disk.is_asked.clear()
        yield disk.is_asked
        disk.answers.set()

    @contextmanager
    def refuse(self) -> Iterator[None]:
        self.log.disk.error = REFUSAL
        yield
        self.log.disk.error = None

    def holds(self, text: bytes) -> bool:
        return any(text in block.body for block in self.log.blocks)


def make_engine(name: str, folder: Path, limits: JournalLimits = LIMITS) -> LogEngine:
    """Make an empty log on an engine."""
    if name == "toy":
        return InMemoryLog(limits)
    limits = replace(limits, compress=name == "embedded, compressed")
    return EmbeddedLog(folder, limits, memory=1 << 20 if name == "embedded" else 0)
