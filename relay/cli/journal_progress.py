"""A line on the terminal that says how far a command is that reads the journal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from relay.cli.output import rewrite_line
from relay.inspect import UNTOLD, JournalProgress

UNITS: Final = ((1_000_000_000, "billion "), (1_000_000, "million "))


@contextmanager
def show_journal_progress(*, shown: bool = True) -> Iterator[JournalProgress]:
    """Show how far the body is, on a terminal, once it takes longer than a second. Wipe the line at the end."""
    if not shown or not sys.stderr.isatty():
        yield UNTOLD
        return
    is_there = False

    def show(read: int, of: int) -> None:
        nonlocal is_there
        is_there = True
        rewrite_line(format_journal_progress(read, of))

    try:
        yield JournalProgress(show)
    finally:
        if is_there:
            rewrite_line("")


def format_journal_progress(read: int, of: int) -> str:
    """Format how many events were read, of how many."""
    percent = read * 100 // max(of, 1)
    for size, unit in UNITS:
        if of >= size:
            return f"read {read / size:.1f} of {of / size:.1f} {unit}events ({percent}%)"
    return f"read {read:,} of {of:,} events ({percent}%)"
