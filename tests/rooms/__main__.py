"""`make rooms`: prints how the rooms of the code and the pages of the documentation measure up, with a goal for each.

`--list` prints what misses a goal, too. Exits with 1 if a measure misses its goal.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from tests.docs.pages import PROSE, long_sentences, sentences
from tests.rooms import code

README: Final = code.ROOT / "README.md"
MODULES_IN_A_FOLDER: Final = 20
LINES_OF_A_FILE: Final = 400
LENGTH_OF_A_TEST_NAME: Final = 70


@dataclass(frozen=True, slots=True)
class Row:
    """A measure of the table."""

    measure: str
    figure: str
    goal: str
    is_met: bool
    found: Sequence[str] = ()
    """What the figure counts, where the goal is none of it."""


def measure() -> list[Row]:
    """Measure code and pages."""
    return [*_functions(), *_modules(), *_pages(), *_tests()]


def _functions() -> list[Row]:
    lengths = code.function_lengths()
    middle = median(lengths)
    long = sum(length > 20 for length in lengths) / len(lengths)
    single = code.private_with_one_use()
    share = len(single) / len(lengths)
    return [
        Row("median length of a function, lines", f"{middle:g}", "6 to 9", 6 <= middle <= 9),
        Row("functions over 20 lines", f"{long:.0%}", "any", is_met=True),
        Row("private functions with one use", f"{share:.1%}", "at most 15%", share <= 0.15, single),
    ]


def _modules() -> list[Row]:
    folders = code.modules_by_folder()
    largest = max(folders, key=lambda folder: folders[folder])
    is_small = folders[largest] <= MODULES_IN_A_FOLDER
    long = {file: lines for file, lines in code.lines_by_file().items() if lines > LINES_OF_A_FILE}
    by_length = [f"{lines} {file}" for file, lines in sorted(long.items(), key=lambda one: -one[1])]
    return [
        _none("modules with a name in -ing, but `ordering`", code.names_in_ing()),
        Row(f"modules in the largest folder, {largest}", str(folders[largest]), "at most 20", is_small),
        _none("imports past the face of a package", code.imports_past_a_face()),
        _none(
            "class names in two files", [f"{name}: {files}" for name, files in code.classes_with_two_homes().items()]
        ),
        _none(
            "tables with SQL in two files", [f"{name}: {files}" for name, files in code.tables_with_two_homes().items()]
        ),
        Row("files over 400 lines", str(len(long)), "one subject each", is_met=True, found=by_length),
    ]


def _pages() -> list[Row]:
    size = len(README.read_bytes())
    middle = median(len(one.split()) for one in sentences(README))
    return [
        Row("README, bytes", str(size), "at most 8192", size <= 8192),
        Row("README, median words of a sentence", f"{middle:g}", "at most 15", middle <= 15),
        _none("sentences over 30 words", [one for page in PROSE for one in long_sentences(page)]),
    ]


def _tests() -> list[Row]:
    long = [name for name in code.test_names() if len(name) > LENGTH_OF_A_TEST_NAME]
    return [_none("test names over 70 characters", long)]


def _none(measure: str, found: Sequence[str]) -> Row:
    return Row(measure, str(len(found)), "0", not found, found)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="print what each figure counts")
    rows = measure()
    is_listed = parser.parse_args().list
    width = max(len(row.measure) for row in rows)
    for row in rows:
        print(f"{'' if row.is_met else 'MISSED':8}{row.measure:{width}}  {row.figure:>8}  {row.goal}")
        for one in row.found if is_listed else ():
            print(f"{'':10}{one}")
    sys.exit(0 if all(row.is_met for row in rows) else 1)


if __name__ == "__main__":
    main()
