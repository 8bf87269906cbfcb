"""A line on the terminal that says how far a command is that reads the journal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from relay.cli.output import rewrite_line
from relay.inspect import UNTOLD, JournalProgress
from relay.screen import format_journal_progress


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
