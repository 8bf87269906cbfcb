"""Threads of relay's own, in a pool for each kind of work that blocks.

No connector can reach these pools: a destination that hangs keeps the threads of its own connector, and asyncio's
default pool if a plugin uses that. Senders, lanes and admins notice nothing.
"""

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NoReturn, TypeVar, TypeVarTuple

import structlog

from relay.stop import STOP, count_seconds_left

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

GRACE_S: Final = 1.0
"""Seconds that threads have to end when the process does; less if a stop has taken long."""
EXIT_S: Final = 0.25
"""What the end of the interpreter may take."""
log = structlog.stdlib.get_logger()


class Pool(ThreadPoolExecutor):
    """Up to so many threads; work beyond that waits for its turn."""

    def __init__(self, name: str, threads: int) -> None:
        super().__init__(threads, name)

    async def run(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Do the work in a thread. When this is cancelled, work that has begun goes on, other work is dropped."""
        return await asyncio.get_running_loop().run_in_executor(self, work, *arguments)


ADMIN: Final = Pool("admin", 8)
"""What admins ask for, and what relay looks up or does beside the flow of events."""
JOURNAL_READS: Final = Pool("journal reads", 8)
UNPACKING: Final = Pool("unpacking", os.cpu_count() or 1)
"""Of compressed requests."""


class LeftAlone(ThreadPoolExecutor):
    """asyncio's default pool, for plugins that use `asyncio.to_thread`: the end of the loop does not wait for it."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Begin no further work. Never waits."""
        super().shutdown(wait=False, cancel_futures=True)


def leave(code: int, *, at_once: bool = False) -> NoReturn:
    """End the process, without waiting for threads that hang; `at_once`: without taking anything apart."""
    for pool in (ADMIN, JOURNAL_READS, UNPACKING):
        pool.shutdown(wait=False, cancel_futures=True)
    deadline = time.monotonic() + count_seconds_left(STOP.over, 2 * GRACE_S) / 2
    others = [one for one in threading.enumerate() if one is not threading.current_thread() and not one.daemon]
    for thread in others:
        thread.join(max(0.0, deadline - time.monotonic()))
    if stuck := sorted(thread.name for thread in others if thread.is_alive()):
        log.warning("threads do not end, relay stops without them", threads=stuck)
    if stuck or at_once or count_seconds_left(STOP.over) < EXIT_S:
        logging.shutdown()  # writes what waits
        os._exit(code)
    sys.exit(code)
