"""Runs the event loop of a process until its main task has ended, whatever tasks and callbacks of plugins do.

How it fails and recovers: a SystemExit or KeyboardInterrupt out of a plugin's own task ends that task, and the loop
goes on. Tasks that are left at the end are cancelled; those that take no notice are left behind with the process.
"""

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

import structlog

from relay.guests import trace_of
from relay.stop import STOP, left

T = TypeVar("T")

TO_END_S: Final = 1.0
"""Seconds that tasks have to end once the main task has; less if a stop has taken long."""
log = structlog.stdlib.get_logger()


def run_main(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, T]) -> T:
    """Run the main task to its end and return what it returns. Raises what it raises."""
    task = loop.create_task(main, name="main")
    while True:
        try:
            return loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt) as error:
            if task.done() or _is_interrupted(error):
                raise
            log.error("a task of a plugin tried to end relay, which goes on", exception=trace_of(error))


def _is_interrupted(error: BaseException) -> bool:
    """Whether it is Ctrl-C, before relay takes signals itself."""
    return isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def _ignore(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What tasks come to as they are ended is nobody's concern."""


def end_tasks(loop: asyncio.AbstractEventLoop) -> bool:
    """End the tasks that are left, and the loop; whether that worked."""
    if tasks := asyncio.all_tasks(loop):
        loop.set_exception_handler(_ignore)  # asyncio's streams complain of a cancellation
        for task in tasks:
            task.cancel()
        with suppress(SystemExit, KeyboardInterrupt):
            loop.run_until_complete(asyncio.wait(tasks, timeout=left(STOP.over, 2 * TO_END_S) / 2))
    if stuck := sorted(task.get_name() for task in asyncio.all_tasks(loop)):
        log.warning("tasks of plugins do not end, relay stops without them", tasks=stuck[:10])
        return False
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    return True
