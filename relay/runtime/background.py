"""Tasks beside the flow, which can end and start again during a run."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class Chores:
    """The tasks beside the flow, by name."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None

    def set_group(self, group: asyncio.TaskGroup) -> None:
        """Set the task group that runs them."""
        self._group = group

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Start a task. It replaces the task of that name."""
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
        """Cancel all tasks."""
        for task in self._tasks.values():
            task.cancel()
