"""What commands write: it never commands the terminal, it fits the terminal's encoding, and what is lost is told."""

import io
import os
import sys
from typing import TextIO

from relay.words import escape


class ForPeople(io.TextIOWrapper):
    """A stream for text that may come from outside. Bytes for its `buffer` stay as they are."""

    encoding = "utf-8"  # else click would write around this class to a terminal that is ASCII

    def __init__(self, plain: io.TextIOWrapper) -> None:
        super().__init__(plain.buffer, plain.encoding, errors="backslashreplace", line_buffering=plain.line_buffering)
        self.plain = plain
        """The stream without this, for a bar that moves the cursor."""

    def write(self, text: str) -> int:
        """Write text, escaped."""
        super().write(escape(text))
        return len(text)


def open_missing() -> None:
    """Have standard streams that are closed lead to /dev/null, before a file of relay's takes their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def protect() -> None:
    """Have all text that is written to the standard streams escaped."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, ForPeople(stream))


def unescaped(stream: TextIO) -> TextIO:
    """The stream as it was before `protect`."""
    return stream.plain if isinstance(stream, ForPeople) else stream


def finish() -> OSError | None:
    """Write out what is left; return the error if it could not be written. Nothing is written after that."""
    lost = None
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            lost = error
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # the interpreter would try once more
    return lost
