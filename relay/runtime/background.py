"""Tasks beside the flow, which may end and begin anew while it goes on."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class Chores:
    """Tasks beside the flow, by name."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None

    def begin(self, group: asyncio.TaskGroup) -> None:
        """They run in this group."""
        self._group = group

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Begin one, in place of the one of that name."""
        if name in self._tasks:
            self._tasks[name].cancel()
        if self._group is None:
            raise RuntimeError("chores are done while the daemon runs")
        self._tasks[name] = self._group.create_task(work, name=name)

    async def stop(self, name: str) -> None:
        """End one, and wait until it has ended."""
        self._tasks[name].cancel()
        await asyncio.wait([self._tasks[name]])

    def end(self) -> None:
        """End all of them."""
        for task in self._tasks.values():
            task.cancel()
