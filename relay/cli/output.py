"""What commands write: it never commands the terminal, it fits the terminal's encoding, and what is lost is told.

A pipe whose reader has read enough is no error: a command does what it has to do, and writes no more.
"""

import codecs
import io
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO, TypeVar

from relay.words import escape, escape_json

T = TypeVar("T")


class Unwritten(OSError):
    """Output that cannot be written."""


class _Pipe(io.FileIO):
    """A stream that leads to /dev/null once nobody reads it any more."""

    is_read = True

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            self.is_read = False
            _discard(self.fileno())
            return len(data)
        except OSError as error:
            raise Unwritten(error.errno, error.strerror) from None


class ForPeople(io.TextIOWrapper):
    """A stream for text that may come from outside. Bytes for its `buffer` stay as they are."""

    encoding = "utf-8"  # else click would write around this class to a terminal that is ASCII

    def __init__(self, given: io.TextIOWrapper) -> None:
        self.pipe = _Pipe(given.fileno(), "wb", closefd=False)
        buffer, how = io.BufferedWriter(self.pipe), given.line_buffering
        super().__init__(buffer, given.encoding, errors="backslashreplace", line_buffering=how)
        self.plain = io.TextIOWrapper(buffer, given.encoding, given.errors, line_buffering=how)
        """The stream without escapes, for a bar that moves the cursor."""

        self.mark = ""
        """What each line begins with."""
        self._begins = True
        self._shown = _Shown(self) if given.isatty() else None

    @property
    def buffer(self) -> Any:
        """Takes bytes as they are, but for a terminal: there what would command it is escaped as in JSON."""
        return super().buffer if self._shown is None else self._shown

    def write(self, text: str) -> int:
        """Write text, escaped."""
        self.put(escape(text))
        return len(text)

    def put(self, text: str) -> None:
        """Write text as it is, with the mark in front of each line."""
        if self.mark and text:
            lines = [self.mark + line if line else line for line in text.splitlines(keepends=True)]
            begins, self._begins = self._begins, text.endswith("\n")
            text = "".join(lines) if begins else "".join(lines).removeprefix(self.mark)
        super().write(text)


class _Shown(io.RawIOBase):
    """Takes bytes for a terminal, and escapes what would command it."""

    def __init__(self, stream: ForPeople) -> None:
        super().__init__()
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._stream.put(escape_json(self._decoder.decode(bytes(data))))
        return len(data)

    def flush(self) -> None:
        if not self._stream.closed:
            self._stream.flush()


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
        if isinstance(stream, io.TextIOWrapper) and not isinstance(stream, ForPeople):
            setattr(sys, name, ForPeople(stream))


def mark_errors(mark: str) -> None:
    """Have each line on standard error begin with this from now on; "": as before."""
    if mark:
        protect()
    if isinstance(sys.stderr, ForPeople):
        sys.stderr.mark = mark


def unescaped(stream: TextIO) -> TextIO:
    """The stream as it was before `protect`."""
    return stream.plain if isinstance(stream, ForPeople) else stream


def while_read(lines: Iterable[T]) -> Iterator[T]:
    """Hand on what is to be printed, for as long as somebody reads standard output."""
    for line in lines:
        yield line
        if isinstance(sys.stdout, ForPeople) and not sys.stdout.pipe.is_read:
            return


def finish() -> OSError | None:
    """Write out what is left; return the error if it could not be written. Nothing is written after that."""
    lost = None
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            lost = error
            _discard(stream.fileno())  # the interpreter would try once more
    return lost


def _discard(descriptor: int) -> None:
    """Have what is written to a descriptor go nowhere from now on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
