"""The alert type `command`: messages to a program."""

import asyncio
import json
import os
import signal
from contextlib import suppress
from typing import Final

from pydantic import Field

from relay.api import Alert, AlertSettings, Message, Retry

PASSED_ON: Final = ("PATH", "HOME", "LANG", "TZ")
"""Variables of the environment that the program gets. The others may hold secrets."""
REAP_S: Final = 1.0
"""Seconds to wait for the end of a killed program."""
STDERR_BYTES: Final = 500
"""Bytes that relay keeps of the end of standard error."""


class Command(Alert, type="command"):
    """Runs a program, which gets the message as JSON on standard input.

    There is no shell. The program gets the variables PATH, HOME, LANG and TZ. Exit code 0 means that the message is
    sent. After `timeout` relay kills the program and all programs that it has started.
    """

    class Settings(AlertSettings):
        """The program to run."""

        command: tuple[str, ...] = Field(min_length=1)
        """The program, a path or a name in $PATH, and its arguments: `["/usr/local/bin/page", "ops"]`."""

    settings: Settings

    async def send(self, message: Message) -> None:
        """Run the program and wait for its end. Raises `Retry` if the program fails."""
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
            with suppress(ProcessLookupError):  # programs that it has started end with it
                os.killpg(process.pid, signal.SIGKILL)
            with suppress(TimeoutError):  # the kernel may hold a process back for longer
                await asyncio.wait_for(process.wait(), REAP_S)
        if code:
            raise Retry(f"{self.settings.command[0]} ended with {code}{f': {said}' if said else ' and said nothing'}")


async def _hand_over(process: asyncio.subprocess.Process, data: bytes) -> str:
    """Write the message to standard input; return the last line of standard error."""
    if process.stdin is None or process.stderr is None:
        raise RuntimeError("the process was started with both pipes")
    if not process.stdin.is_closing():  # a program may end without reading
        process.stdin.write(data)
        process.stdin.close()
    said = b""
    while piece := await process.stderr.read(65536):
        said = (said + piece)[-STDERR_BYTES:]
    lines = said.decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
