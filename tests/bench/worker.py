"""Sender and destination are processes of their own that answer commands: one JSON object a line, both ways."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

ANSWER_SECONDS: Final = 300.0
"""The longest that a command may take; a hanging run ends here."""
LINE_BYTES: Final = 64 << 20
Command = dict[str, Any]


class Worker:
    """The other end: a worker process, as the benchmark sees it."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def ask(self, **command: Any) -> Any:
        """Send a command and wait for its answer. Raises RuntimeError if the process has died."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        return await self.heard()

    async def heard(self) -> Any:
        """The next line from the process."""
        assert self._process.stdout is not None
        async with asyncio.timeout(ANSWER_SECONDS):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("a worker of the benchmark has died; its reason is above")
        return json.loads(line)


@asynccontextmanager
async def working(script: str, *arguments: str) -> AsyncIterator[Worker]:
    """Run one of the scripts of this folder; wait until it is ready."""
    path = Path(__file__).with_name(script)
    process = await asyncio.create_subprocess_exec(
        sys.executable, path, *arguments, stdin=PIPE, stdout=PIPE, limit=LINE_BYTES
    )
    worker = Worker(process)
    try:
        await worker.heard()
        yield worker
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def serve(start: Callable[[], Awaitable[Callable[[Command], Awaitable[Any]]]]) -> None:
    """Be a worker: `start` makes what answers commands; end when there are no more."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(start))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _serve(start: Callable[[], Awaitable[Callable[[Command], Awaitable[Any]]]]) -> None:
    answer = await start()
    _say("ready")
    while line := await asyncio.to_thread(sys.stdin.readline):
        _say(await answer(json.loads(line)))


def _say(what: Any) -> None:
    print(json.dumps(what), flush=True)
