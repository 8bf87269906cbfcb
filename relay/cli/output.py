"""The output of commands: never commands the terminal, fits its encoding, and reports what is lost.

A pipe whose reader has read enough is no error: the command does its work, and writes no more.
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
    """Raised for output that cannot be written."""


class _Pipe(io.FileIO):
    """A stream that leads to /dev/null once nobody reads it."""

    is_read = True

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            self.is_read = False
            _redirect_to_null(self.fileno())
            return len(data)
        except OSError as error:
            raise Unwritten(error.errno, error.strerror) from None


class ForPeople(io.TextIOWrapper):
    """A stream for foreign text. Bytes for its `buffer` stay as they are."""

    encoding = "utf-8"  # else click would write around this class to a terminal that is ASCII

    def __init__(self, given: io.TextIOWrapper) -> None:
        self.pipe = _Pipe(given.fileno(), "wb", closefd=False)
        buffer, how = io.BufferedWriter(self.pipe), given.line_buffering
        super().__init__(buffer, given.encoding, errors="backslashreplace", line_buffering=how)
        self.plain = io.TextIOWrapper(buffer, given.encoding, given.errors, line_buffering=how)
        """The stream without escapes, for a progress bar."""

        self.mark = ""
        """The prefix of each line."""
        self._begins = True
        self._shown = _Shown(self) if given.isatty() else None

    @property
    def buffer(self) -> Any:
        """The stream for bytes. For a terminal, control characters are escaped as in JSON."""
        return super().buffer if self._shown is None else self._shown

    def write(self, text: str) -> int:
        """Write text, escaped."""
        self.put(escape(text))
        return len(text)

    def put(self, text: str) -> None:
        """Write text as it is, with the mark before each line."""
        if self.mark and text:
            lines = [self.mark + line if line else line for line in text.splitlines(keepends=True)]
            begins, self._begins = self._begins, text.endswith("\n")
            text = "".join(lines) if begins else "".join(lines).removeprefix(self.mark)
        super().write(text)


class _Shown(io.RawIOBase):
    """Takes bytes for a terminal, and escapes control characters."""

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
    """Open closed standard streams on /dev/null, before a file of relay's takes their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def protect() -> None:
    """Escape all text written to the standard streams from now on."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and not isinstance(stream, ForPeople):
            setattr(sys, name, ForPeople(stream))


def mark_errors(mark: str) -> None:
    """Put this mark before each line on standard error from now on; "": no mark."""
    if mark:
        protect()
    if isinstance(sys.stderr, ForPeople):
        sys.stderr.mark = mark


def rewrite_line(text: str) -> None:
    """Write text to the terminal that is standard error, in place of its last line; "" wipes that line."""
    print(f"\r\x1b[K{text}", end="", file=get_plain(sys.stderr), flush=True)


def get_plain(stream: TextIO) -> TextIO:
    """Return the stream as it was before `protect`."""
    return stream.plain if isinstance(stream, ForPeople) else stream


def stop_unread(lines: Iterable[T]) -> Iterator[T]:
    """Yield what is to be printed, as long as somebody reads standard output."""
    for line in lines:
        yield line
        if isinstance(sys.stdout, ForPeople) and not sys.stdout.pipe.is_read:
            return


def finish() -> OSError | None:
    """Write out the rest; return the error if that fails. Nothing is written after that."""
    lost = None
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            lost = error
            _redirect_to_null(stream.fileno())  # the interpreter would try once more
    return lost


def _redirect_to_null(descriptor: int) -> None:
    """Redirect a descriptor to /dev/null."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
