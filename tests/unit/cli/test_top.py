"""`relay top` keeps its head and fits the terminal."""

import pytest

from relay.cli.commands.running.top import fit

FIGURES = ["relay 1, up 3h", "", "connector  state", "archive  working"]
SENTENCE = "heap: paused after 401; 5 pending; relay resume heap"


@pytest.mark.parametrize(
    ("columns", "rows", "shown"),
    [
        (80, 24, [*FIGURES, "", SENTENCE]),
        (80, 7, [*FIGURES, "", SENTENCE]),
        (80, 6, [*FIGURES, "... 2 more lines: relay status"]),
        (80, 4, [*FIGURES[:2], "... 4 more lines: relay status"]),
        (12, 4, ["relay 1, up>", "", "... 8 more l"]),
        (30, 9, [*FIGURES, "", "heap: paused after 401; 5", "pending; relay resume heap"]),
    ],
)
def test_a_screen_fits_the_terminal_and_begins_with_its_head(columns: int, rows: int, shown: list[str]) -> None:
    fitted = fit(FIGURES, ["", SENTENCE], columns, rows)
    assert fitted == shown
    assert all(len(line) <= columns for line in fitted)
    assert len(fitted) < rows
