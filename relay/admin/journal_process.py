"""Has the whole journal read by a process of its own, `relay.inspect.subprocess`: the daemon's loop does not notice.

It ends when it has answered, when whoever asked goes away, when relay stops, and at the latest after DEADLINE_S.
"""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from subprocess import PIPE, Popen, TimeoutExpired
from typing import IO, Any, Final, cast

import msgspec

from relay.inspect import NOT_THERE, Question
from relay.threads import ADMIN

COMMAND: Final = (sys.executable, "-m", "relay.inspect")
NICE: Final = 5
"""Where there is not enough CPU, it gets a third of what relay gets. With 10, a tenth, it takes minutes there."""
DEADLINE_S: Final = 3600.0
"""How long an answer may take, the wait for those before it included; each piece of one that comes in pieces."""
KILLED_S: Final = 10.0
"""How long a process that was killed may take to end: a disk that hangs may hold it."""
PIECE: Final = 256 << 10


class JournalProcess:
    """Reads a state folder and the journals in it."""

    def __init__(self, state: Path, path: Path) -> None:
        """`path`: the setting `journal.path`."""
        self._state, self._path = str(state), str(path)
        self._turn = asyncio.Lock()

    async def answer(self, name: str, **more: Any) -> msgspec.Raw:
        """The answer to one of `relay.inspect.subprocess.QUESTIONS`, as JSON; one after the other. Raises OSError,
        LookupError (what is asked for is not there)."""
        async with _in_time(), self._turn, self.pieces(name, **more) as pieces:
            return msgspec.Raw(b"".join([piece async for piece in pieces]))

    @asynccontextmanager
    async def pieces(self, name: str, **more: Any) -> AsyncIterator[AsyncIterator[bytes]]:
        """The same in pieces, as they come and at the pace of whoever takes them. Raises as `answer`."""
        process, ours = _started()
        try:
            with ours:
                reader, writer = await asyncio.open_unix_connection(sock=ours, limit=PIECE)
                with closing(writer):
                    writer.write(msgspec.json.encode(Question(name, self._state, self._path, more)))
                    writer.write_eof()
                    yield _pieces(process, reader)
        finally:
            process.kill()
            _said(process).close()
            with suppress(TimeoutExpired):
                await ADMIN.run(process.wait, KILLED_S)


def _started() -> tuple[Popen[bytes], socket.socket]:
    """The process, and what it reads and writes. Not by asyncio: uvloop forks, which holds up the loop for the longer
    the more memory relay has; this takes a millisecond."""
    ours, theirs = socket.socketpair()
    with theirs:
        end = theirs.fileno()
        process = Popen(COMMAND, stdin=end, stdout=end, stderr=PIPE)  # noqa: S603  nothing of it is from outside
    with suppress(OSError):  # where the service manager forbids it
        os.setpriority(os.PRIO_PROCESS, process.pid, NICE)  # not by itself: that would be after all its imports
    return process, ours


async def _pieces(process: Popen[bytes], reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while piece := await _read(reader):
        yield piece
    async with _in_time():
        code = await ADMIN.run(process.wait)
    if code:
        lines = _said(process).read().decode(errors="replace").splitlines()
        failure = LookupError if code == NOT_THERE else OSError
        raise failure(lines[-1] if lines else f"what reads the journal ended with {code}")


def _said(process: Popen[bytes]) -> IO[bytes]:
    """Its standard error. Whatever is in there was written before its end: nobody waits for more."""
    return cast("IO[bytes]", process.stderr)


async def _read(reader: asyncio.StreamReader) -> bytes:
    with suppress(ConnectionError):  # it has ended without a look at the question
        async with _in_time():
            return await reader.read(PIECE)
    return b""


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield
    except TimeoutError:
        raise OSError(f"the journal was not read within {DEADLINE_S:,.0f} seconds") from None
