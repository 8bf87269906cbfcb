"""Logs on a real PostgreSQL, for tests."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from relay.api import Kind
from relay.postgres.connection import Database
from relay.postgres.log.appender import PostgresAppender
from relay.postgres.log.log import PostgresLog
from relay.store import JournalLimits, LogReader

KIND = Kind("braze", "users.messages.email.Open")
LIMITS = JournalLimits(max_size=1 << 30, retention=3600)
Open = Callable[..., PostgresLog]


@asynccontextmanager
async def open_logs(database: Database) -> AsyncIterator[Open]:
    """Open logs of partition 0 in the body, and close them after it."""
    async with asyncio.timeout(60), AsyncExitStack() as opened:

        def open_one(limits: JournalLimits = LIMITS, memory: int = 0) -> PostgresLog:
            log = PostgresLog(database, 0, limits, memory)
            opened.push_async_callback(log.close)
            return log

        yield open_one


async def append(log: PostgresAppender, *bodies: bytes) -> int:
    """Append events of one kind; return the offset of the first."""
    return await log.append([KIND] * len(bodies), list(bodies))


async def read_to(reader: LogReader, stop: int, offset: int = 0) -> dict[int, bytes]:
    """Read from an offset up to another one, with whatever waiting that takes."""
    found: dict[int, bytes] = {}
    while offset < stop:
        for block in await reader.read(offset):
            found |= {event.offset: event.body for event in block.events()}
        offset = reader.offset
    return found
