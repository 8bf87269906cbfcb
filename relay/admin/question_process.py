"""Has a process of its own answer a question, so that the event loop does not notice.

`relay.inspect` reads the whole journal, and `relay.proposal` runs the code of plugins over a new configuration.

The process ends with its answer, when the client leaves, when relay stops, and at the latest after DEADLINE_S.
"""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from subprocess import PIPE, Popen, TimeoutExpired
from typing import IO, Any, Final, TypeAlias, cast

import msgspec
from aiohttp import web

from relay.admin.responses import NDJSON, make_answer
from relay.config import JournalSettings
from relay.inspect import INTERVAL_S, NOT_THERE, Question, encode_problem
from relay.threads import ADMIN

NICE: Final = 5
"""With scarce CPU, the process gets a third of relay's share. With 10, a tenth, it would take minutes."""
LOWEST: Final = 19
"""For an answer that may take minutes: with scarce CPU, relay's events hardly notice the process."""
DEADLINE_S: Final = 3600.0
"""Seconds for an answer, including the wait for earlier ones; for an answer in pieces, seconds per piece."""
KILLED_S: Final = 10.0
"""Seconds that a killed process may take to end. A hanging disk may delay it."""
PIECE: Final = 256 << 10
Tell: TypeAlias = Callable[[bytes], Awaitable[None]]


class QuestionProcess:
    """Starts a process for each question on a state folder and its journals."""

    def __init__(
        self,
        state: Path,
        settings: JournalSettings,
        module: str = "relay.inspect",
        seconds: float = DEADLINE_S,
        nice: int | None = None,
    ) -> None:
        """`module`: the package that answers. `seconds`: as DEADLINE_S. `nice`: None: NICE."""
        self._state, self._journal = str(state), settings
        self._module, self._seconds, self._nice = module, seconds, nice
        self._turn = asyncio.Lock()

    async def answer(self, name: str, *, tell: Tell | None = None, **more: Any) -> msgspec.Raw:
        """Answer one of the module's QUESTIONS as JSON, one after the other.

        `tell` gets a line about every INTERVAL_S seconds that says how far the reading is. Raises OSError, and
        LookupError if the subject does not exist.
        """
        progress = tell is not None
        async with self._limit_time(), self._turn, self.answer_in_pieces(name, progress=progress, **more) as pieces:
            held = list[bytes]()
            async for piece in pieces:
                *lines, rest = piece.split(b"\n")  # the answer itself has no line break
                for line in lines:
                    if tell is not None:
                        await tell(b"".join([*held, line, b"\n"]))
                    held.clear()
                held.append(rest)
            return msgspec.Raw(b"".join(held))

    @asynccontextmanager
    async def answer_in_pieces(
        self, name: str, *, progress: bool = False, **more: Any
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Answer a question in pieces, as they come and at the reader's speed. Raises as `answer`.

        `progress`: whether lines say every INTERVAL_S seconds how far the reading is.
        """
        interval = INTERVAL_S if progress else None
        question = Question(name, self._state, self._journal.write(), more, interval)
        process, ours = _start(self._module, NICE if self._nice is None else self._nice)
        try:
            with ours:
                reader, writer = await asyncio.open_unix_connection(sock=ours, limit=PIECE)
                with closing(writer):
                    writer.write(msgspec.json.encode(question))
                    writer.write_eof()
                    yield self._read_pieces(process, reader)
        finally:
            process.kill()
            _read_error(process).close()
            with suppress(TimeoutExpired):
                await ADMIN.run(process.wait, KILLED_S)

    async def _read_pieces(self, process: Popen[bytes], reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
        while True:
            piece = b""
            with suppress(ConnectionError):  # it has ended without a look at the question
                async with self._limit_time():
                    piece = await reader.read(PIECE)
            if not piece:
                break
            yield piece
        async with self._limit_time():
            code = await ADMIN.run(process.wait)
        if code:
            lines = _read_error(process).read().decode(errors="replace").splitlines()
            failure = LookupError if code == NOT_THERE else OSError
            raise failure(lines[-1] if lines else f"the process that was to answer ended with {code}")

    @asynccontextmanager
    async def _limit_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._seconds):
                yield
        except TimeoutError:
            raise OSError(f"there was no answer within {self._seconds:,.0f} seconds") from None


async def answer_by(
    process: QuestionProcess,
    request: web.Request,
    name: str,
    finish: Callable[[msgspec.Raw], object] = msgspec.Raw,
    **more: Any,
) -> web.StreamResponse:
    """Answer a question, with lines before the answer that say how far the reading is, if the client wants them."""
    if not wants_progress(request):
        return make_answer(await ADMIN.run(finish, await process.answer(name, **more)))
    lines = web.StreamResponse(headers={"Content-Type": NDJSON})

    async def send(line: bytes) -> None:
        if not lines.prepared:
            await lines.prepare(request)
        await lines.write(line)

    try:
        found = await ADMIN.run(finish, await process.answer(name, tell=send, **more))
        answer = msgspec.json.encode(found) + b"\n"
    except OSError as error:
        if not lines.prepared:
            raise
        answer = encode_problem(str(error))
    await send(answer)
    await lines.write_eof()
    return lines


def wants_progress(request: web.Request) -> bool:
    """Return whether the client wants to know how far the reading is. Raises msgspec.ValidationError."""
    return msgspec.convert(request.query.get("progress", "false"), bool, strict=False)


def _start(module: str, nice: int) -> tuple[Popen[bytes], socket.socket]:
    """Start the process; return it with its socket.

    asyncio is not used: uvloop forks, which blocks the loop the longer the more memory relay has. This takes a
    millisecond.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        end = theirs.fileno()
        command = sys.executable, "-m", module
        process = Popen(command, stdin=end, stdout=end, stderr=PIPE)  # noqa: S603  nothing of it is from outside
    with suppress(OSError):  # where the service manager forbids it
        os.setpriority(os.PRIO_PROCESS, process.pid, nice)  # not by itself: that would be after all its imports
    return process, ours


def _read_error(process: Popen[bytes]) -> IO[bytes]:
    """Return its standard error, written before its end. Waits for nothing."""
    return cast("IO[bytes]", process.stderr)
