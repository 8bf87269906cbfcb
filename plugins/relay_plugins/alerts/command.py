"""The alert type `command`: a program gets the message."""

import asyncio
import json
import os
import signal
from contextlib import suppress
from typing import Final

from pydantic import Field

from relay.api import Alert, AlertSettings, Message, Retry

PASSED_ON: Final = ("PATH", "HOME", "LANG", "TZ")
"""Of the environment. The rest may hold secrets."""
REAP_S: Final = 1.0
"""Seconds that a killed program has to end."""
SAID_BYTES: Final = 500
"""Of what it writes to standard error, the last ones."""


class Command(Alert, type="command"):
    """Runs a program, which gets the message as JSON on standard input.

    There is no shell. The program gets the variables PATH, HOME, LANG and TZ. Exit code 0 means that the message is
    sent. After `timeout` relay kills the program and all programs that it has started.
    """

    class Settings(AlertSettings):
        """What to run."""

        command: tuple[str, ...] = Field(min_length=1)
        """The program, a path or a name in $PATH, and its arguments: `["/usr/local/bin/page", "ops"]`."""

    settings: Settings

    async def send(self, message: Message) -> None:
        """Run it."""
        process = await asyncio.create_subprocess_exec(
            *self.settings.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={name: os.environ[name] for name in PASSED_ON if name in os.environ},
            start_new_session=True,
        )
        try:
            said = await _hand_over(process, json.dumps(message.data).encode())
            code = await process.wait()
        finally:
            with suppress(ProcessLookupError):  # what it has started ends with it
                os.killpg(process.pid, signal.SIGKILL)
            with suppress(TimeoutError):  # a process that the kernel holds back costs no more than that
                await asyncio.wait_for(process.wait(), REAP_S)
        if code:
            raise Retry(f"{self.settings.command[0]} ended with {code}{f': {said}' if said else ' and said nothing'}")


async def _hand_over(process: asyncio.subprocess.Process, data: bytes) -> str:
    """Hand it the message; return the last line that it writes to standard error."""
    if process.stdin is None or process.stderr is None:
        raise RuntimeError("it was started with both")
    if not process.stdin.is_closing():  # a program need not read it, and may have ended already
        process.stdin.write(data)
        process.stdin.close()
    said = b""
    while piece := await process.stderr.read(65536):
        said = (said + piece)[-SAID_BYTES:]
    lines = said.decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
