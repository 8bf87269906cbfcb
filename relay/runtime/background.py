"""Tasks beside the flow, which can end and start again during a run."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class Chores:
    """The tasks beside the flow, by name."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._is_over = False

    def set_group(self, group: asyncio.TaskGroup) -> None:
        """Set the task group that runs them."""
        self._group = group

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Start a task, unless all tasks have ended. It replaces the task of that name."""
        if self._is_over:
            work.close()
            return
        if name in self._tasks:
            self._tasks[name].cancel()
        if self._group is None:
            raise RuntimeError("chores are done while the daemon runs")
        self._tasks[name] = self._group.create_task(work, name=name)

    async def stop(self, name: str) -> None:
        """Cancel a task, and wait for its end."""
        self._tasks[name].cancel()
        await asyncio.wait([self._tasks[name]])

    def end(self) -> None:
        """Cancel all tasks. None starts any more."""
        self._is_over = True
        for task in self._tasks.values():
            task.cancel()
