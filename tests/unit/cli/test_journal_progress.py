"""The line that says how far a command is, on a terminal and for scripts."""

import io
import sys

import pytest

from relay.cli.journal_progress import show_journal_progress
from relay.screen import format_journal_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("read", "of", "line"),
    [
        (0, 0, "read 0 of 0 events (0%)"),
        (1234, 999_999, "read 1,234 of 999,999 events (0%)"),
        (3_200_000, 18_400_000, "read 3.2 of 18.4 million events (17%)"),
        (18_399_999, 18_400_000, "read 18.4 of 18.4 million events (99%)"),
        (40_000_000, 2_500_000_000, "read 0.0 of 2.5 billion events (1%)"),
    ],
)
def test_progress_is_shown_in_the_unit_of_the_whole(read: int, of: int, line: str) -> None:
    assert format_journal_progress(read, of) == line


def test_a_terminal_gets_one_line_that_is_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with show_journal_progress():
        pass
    with show_journal_progress() as progress:
        assert progress.tell is not None
        progress.tell(1, 4)
        progress.tell(2, 4)
    shown = ["", "read 1 of 4 events (25%)", "read 2 of 4 events (50%)", ""]
    assert terminal.getvalue() == "\r\x1b[K".join(shown)


def test_scripts_get_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with show_journal_progress() as progress:
        assert progress.tell is None
    monkeypatch.setattr(sys, "stderr", Terminal())
    with show_journal_progress(shown=False) as progress:
        assert progress.tell is None
