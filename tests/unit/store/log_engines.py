"""The engines that the suite of the log runs on: each makes a log, and does to the log what a disk does."""

import asyncio
import errno
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from relay.journal.journal import Journal
from relay.journal.outside.view import JournalView
from relay.postgres.log.blocks import read_rows
from relay.postgres.log.log import PostgresLog
from relay.store.log import JournalLimits, Log
from tests.postgres import start_shared_pooler, start_shared_server
from tests.toy_store.log import ToyLog

LIMITS = JournalLimits(max_size=1 << 30, retention=3600)
REFUSAL = "the disk says no"


class LogEngine(ABC):
    """One log on one engine."""

    log: Log
    refusal = REFUSAL
    """What senders are told while commits fail."""

    async def close(self) -> None:
        """Close the log."""
        await self.log.close()

    @abstractmethod
    def begin_part(self) -> None:
        """Let the next event begin another part of the log, where an engine keeps its events in parts."""

    @abstractmethod
    def hold(self) -> AbstractAsyncContextManager[asyncio.Event]:
        """Let no event become durable before the block ends; yield what is set when a commit waits for that."""

    @abstractmethod
    def refuse(self) -> AbstractContextManager[None]:
        """Let every commit fail until the block ends."""

    def set_time(self, seconds: int, patch: pytest.MonkeyPatch) -> None:
        """Stop the clock by which events are received at a Unix time."""
        patch.setattr(time, "time_ns", lambda: seconds * 10**9)

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


class DatabaseLog(LogEngine):
    """A log in a real PostgreSQL, in a schema of its own."""

    log: PostgresLog
    refusal = f"PostgreSQL: {REFUSAL}"

    def __init__(self, limits: JournalLimits, memory: int, dsn: str = "") -> None:
        self.server = start_shared_server()
        self.database = self.server.make_database(dsn=dsn)
        self._limits, self._memory = limits, memory
        self.log = self._open()

    def _open(self) -> PostgresLog:
        return PostgresLog(self.database, 0, self._limits, self._memory)

    async def reopen(self) -> None:
        """Close the log, and open it again."""
        await self.log.close()
        self.log = self._open()

    async def close(self) -> None:
        await super().close()
        self.database.close()

    def begin_part(self) -> None:
        self.log._writer.seal(self.log.head)

    def set_time(self, seconds: int, patch: pytest.MonkeyPatch) -> None:
        self._replace("read_clock() RETURNS bigint LANGUAGE sql", f"SELECT {seconds * 10**6}::bigint")

    def _replace(self, function: str, body: str) -> None:
        with self.database.use() as db:
            db.run(f"CREATE OR REPLACE FUNCTION $.{function} AS $body$ {body} $body$")

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[asyncio.Event]:
        begun = asyncio.Event()
        waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"
        with self.database.connect() as db:
            db.run("BEGIN; SELECT $.lock_log(0, 1000)")

            async def notice() -> None:
                while not db.run(waiting).fetchall():
                    await asyncio.sleep(0.01)
                begun.set()

            async with asyncio.TaskGroup() as group:
                noticing = group.create_task(notice())
                try:
                    yield begun
                finally:
                    noticing.cancel()
                    db.run("ROLLBACK")
        await self.log.await_commit()

    @contextmanager
    def refuse(self) -> Iterator[None]:
        function = "lock_log(part integer, lock_ms integer) RETURNS void LANGUAGE plpgsql"
        with self.database.use() as db:
            ((body,),) = db.run("SELECT prosrc FROM pg_proc WHERE oid = '$.lock_log'::regproc").fetchall()
        self._replace(function, f"BEGIN RAISE EXCEPTION '{REFUSAL}'; END")
        yield
        self._replace(function, body)

    def holds(self, text: bytes) -> bool:
        schema = self.database.schema.strip('"')
        files = self.server.execute(f"""
            SELECT pg_relation_filepath(one.oid) FROM pg_class AS one
            LEFT JOIN pg_class AS of ON one.oid IN (of.reltoastrelid)
            WHERE '{schema}'::regnamespace IN (one.relnamespace, of.relnamespace) AND one.relkind IN ('r', 't')
        """)
        self.server.execute("CHECKPOINT")
        with self.database.use() as db:
            names = db.run("SELECT name FROM $.segment").fetchall()
            rows = [row for (name,) in names for row in read_rows(db, name, 0, 1 << 62, 1 << 30)]
        blocks = [block for row in rows if (block := row.decode()) is not None]
        read = [(self.server.folder / str(file)).read_bytes() for (file,) in files]
        return any(text in one for one in read) or any(text in block.body for block in blocks)


def make_engine(name: str, folder: Path, limits: JournalLimits = LIMITS) -> LogEngine:
    """Make an empty log on an engine."""
    if name == "toy":
        return InMemoryLog(limits)
    limits = replace(limits, compress="compressed" in name)
    if name.startswith("postgres"):
        dsn = start_shared_pooler().dsn if "pooler" in name else ""
        return DatabaseLog(limits, 0 if "from the database" in name else 1 << 20, dsn)
    return EmbeddedLog(folder, limits, memory=1 << 20 if name == "embedded" else 0)
