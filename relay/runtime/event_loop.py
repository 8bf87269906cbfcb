"""Runs the event loop of a process until its main task ends, whatever tasks and callbacks of plugins do.

Failure and recovery: a SystemExit or KeyboardInterrupt in a plugin's own task ends that task, and the loop goes on.
Tasks that remain at the end are cancelled. Tasks that ignore that end with the process.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

import structlog

from relay.guests import format_trace
from relay.stop import STOP, count_seconds_left

T = TypeVar("T")

TO_END_S: Final = 1.0
"""Seconds that tasks have to end after the main task; less if a stop has taken long."""
log = structlog.stdlib.get_logger()


def run_main(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, T]) -> T:
    """Run the main task to its end; return what it returns, and raise what it raises."""
    task = loop.create_task(main, name="main")
    while True:
        try:
            return loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt) as error:
            if task.done():
                raise
            log.error("a task of a plugin tried to end relay, which goes on", exception=format_trace(error))


def end_tasks(loop: asyncio.AbstractEventLoop) -> bool:
    """End the remaining tasks and the loop; return whether that worked."""
    if tasks := asyncio.all_tasks(loop):
        loop.set_exception_handler(_ignore_error)  # asyncio's streams complain of a cancellation
        for task in tasks:
            task.cancel()
        with suppress(SystemExit, KeyboardInterrupt):
            loop.run_until_complete(asyncio.wait(tasks, timeout=count_seconds_left(STOP.over, 2 * TO_END_S) / 2))
    if stuck := sorted(task.get_name() for task in asyncio.all_tasks(loop)):
        log.warning("tasks of plugins do not end, relay stops without them", tasks=stuck[:10])
        return False
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    return True


def _ignore_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Ignore an error of a task that is being ended."""
