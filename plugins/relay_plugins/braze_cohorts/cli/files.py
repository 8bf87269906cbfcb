"""Reads users from files: CSV or NDJSON. Refuses what looks like a mistake: a push replaces a whole membership."""

import csv
import json
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE, iterdecode
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from io import StringIO
from itertools import chain, islice, starmap
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import click

from relay_plugins.braze_cohorts.change import read_member
from relay_plugins.braze_cohorts.damage import IF_RIGHT, check_undamaged, is_sum

DELIMITERS: Final = ",;\t"
NAMES: Final = {
    "external_id": ("external_id", "external_user_id", "user_id", "id", "identity"),
    "device_id": ("device_id", "id", "identity"),
    "alias": ("alias_name", "alias", "id", "identity"),
    "prefix": ("identity", "id", "external_id", "external_user_id", "user_id", "device_id", "alias"),
}
"""Names of columns and fields with users, by the kind of the ids."""
CERTAIN: Final = {
    "external_id": ("external_id", "external_user_id"),
    "device_id": ("device_id",),
    "alias": ("alias_name", "alias"),
    "prefix": ("identity",),
}
"""Names that are certain. Columns or fields with other names must have the same values."""
HEAPS_OWN: Final = {"identity", "user_id"}
"""A file with both names is Heap's export: its user id is Heap's own number."""
SEPARATOR: Final = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
"""A line that Excel may write before the header."""
EXCEL: Final = 'from Excel save it as "CSV UTF-8 (Comma delimited)"'
TITLE: Final = re.compile(
    r"((account|alias|braze|contact|customer|device|e-?mail|external|heap|id|identity|key|label|mail|member|name|number|"
    r"profile|subscriber|user|uuid)s?[\s_.-]*){1,6}",
    re.IGNORECASE,
)
"""Other names that people give to such columns."""
has_digit: Final = re.compile(r"[\d@]").search
"""Finds what ids have, and titles of columns rarely."""
SAY_COLUMN: Final = "say --column NAME or, counted from 1, --column NUMBER"
SAMPLE_LINES: Final = 1000
"""Lines to compare with the first line."""


class Form(NamedTuple):
    """The options for reading a file."""

    match: str = "external_id"
    """The kind of the ids."""
    column: str | None = None
    """The column or field with the users: its name or, for a column, its number from 1."""
    header: bool | None = None
    """Whether the first line of a CSV file is a header; None: relay finds out."""
    as_is: bool = False
    """Whether to accept ids that look damaged."""

    @property
    def names(self) -> Sequence[str]:
        """The possible names of the column."""
        return (self.column,) if self.column is not None else NAMES[self.match.partition(":")[0]]

    def find_candidates(self, known: Sequence[str]) -> list[str]:
        """Return the names in `known` that may have the users. All of them must have the same values."""
        found = [name for name in self.names if name in known]
        certain = [name for name in found if name in CERTAIN[self.match.partition(":")[0]]]
        if not certain and {*found} >= HEAPS_OWN:
            found.remove("user_id")
            found.sort(key=lambda name: name != "identity")
        return certain or found


def read_users(file: IO[bytes], form: Form) -> list[str]:
    """Return the users in a file, each once. Raises ClickException if the file is unreadable or names no user."""
    try:
        users = [*dict.fromkeys(_read_text(file, form))]
        for user in users:
            read_member(user, form.match)
        if not form.as_is:
            check_undamaged(users)
    except UnicodeDecodeError:
        raise click.ClickException(f"{file.name} is neither UTF-8 nor UTF-16: {EXCEL}") from None
    except (csv.Error, ValueError) as error:
        raise click.ClickException(f"{file.name}: {error}") from None
    if not users:
        raise click.ClickException(f"{file.name} names no user; relay cohorts empty is for an empty membership")
    return users


def _read_text(file: IO[bytes], form: Form) -> Iterable[str]:
    """Return the users line by line. The text is UTF-8 or, after a byte order mark, UTF-16. Raises ValueError."""
    start = file.readline()
    if start.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        text: Iterator[str] = StringIO((start + file.read()).decode("utf-16"), newline="")
    elif b"\0" in start:
        raise ValueError(f"this is no text, or UTF-16 that does not say so: {EXCEL}")
    else:
        text = iterdecode(chain([start], file), "utf-8-sig")
    lines = ((number, line) for number, line in enumerate(text, 1) if line.strip())
    number, first = next(lines, (1, ""))
    every = chain([(number, first)], lines)
    if _is_json(first, Path(str(getattr(file, "name", ""))).suffix.lower(), form):
        return starmap(partial(_read_json, form), every)
    if first.lstrip().startswith("["):
        raise ValueError("JSON is taken with one user a line (NDJSON)")
    return _read_csv(first, (line for _, line in every), form)


def _is_json(line: str, ending: str, form: Form) -> bool:
    """Return whether a file with this first line is NDJSON: an object or a text. A line of CSV may be in quotes like a
    text; then the ending of the file's name, the form and the words in the text decide."""
    if line.lstrip().startswith("{"):
        return True
    if SEPARATOR.fullmatch(line):
        return False
    try:
        text = json.loads(line)
    except ValueError:
        return False
    is_csv = ending == ".csv" or form.header is not None
    return isinstance(text, str) and not is_csv and (ending == ".ndjson" or not TITLE.fullmatch(text[:80]))


def _read_json(form: Form, number: int, line: str) -> str:
    try:
        value: Any = json.loads(line, object_pairs_hook=_make_object)
    except ValueError as error:
        raise ValueError(f"line {number}: {line.strip()[:80]!r} is not JSON: {getattr(error, 'msg', error)}") from None
    if isinstance(value, dict):
        value = _find_agreed([(name, value[name]) for name in form.find_candidates([*value])] or [("", None)])
    if isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)
    fields = ", ".join(form.names)
    raise ValueError(f"line {number}: {line.strip()[:80]!r} has none of the fields {fields}: --column names another")


def _make_object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object. Raises ValueError if a name is there twice with different values."""
    found = dict(pairs)
    for name, value in pairs:
        if found[name] != value:
            raise ValueError(f"{name[:80]!r} is there twice: {value!r:.80} and {found[name]!r:.80}")
    return found


def _find_agreed(found: Sequence[tuple[str, Any]]) -> Any:
    """Return the value that all candidates (name, value) have. Raises ValueError if they differ."""
    (name, value), *others = found
    for other, its in others:
        if its != value:
            raise ValueError(f"which has the users, {name} ({value!r:.80}) or {other} ({its!r:.80})? {SAY_COLUMN}")
    return value


def _read_csv(first: str, lines: Iterable[str], form: Form) -> Iterator[str]:
    """Yield the users of the lines of CSV. `first` is the first line. Raises ValueError."""
    said = SEPARATOR.fullmatch(first)
    delimiter = said[1] if said else max(DELIMITERS, key=lambda one: len(next(csv.reader([first], delimiter=one))))
    rows = csv.reader(islice(lines, 1 if said else 0, None), delimiter=delimiter)
    start = [row for row in islice(rows, SAMPLE_LINES) if row]
    columns, has_header = _find_columns(start, form)
    titles, row = start[0] if has_header else [], list[str]()
    for row in chain(start[has_header:], rows):
        if max(columns) >= len(row):
            raise ValueError(f"{delimiter.join(row)[:80]!r} has no column {max(columns) + 1}")
        if titles and any(cell.strip() for cell in row[len(titles) :]):
            raise ValueError(f"{delimiter.join(row)[:80]!r} has more columns than the header")
        if row == titles and not form.as_is:
            raise ValueError(f"{delimiter.join(row)[:80]!r} is the header once more: remove the line; {IF_RIGHT}")
        if user := _find_agreed([(titles[at] if titles else "", row[at].strip()) for at in columns]):
            yield user
    if is_sum(row) and not form.as_is:
        raise ValueError(f"the last line, {delimiter.join(row)[:80]!r}, is that of a sum: remove it; {IF_RIGHT}")


def _find_columns(rows: Sequence[Sequence[str]], form: Form) -> tuple[list[int], bool]:
    """Return the columns with the users, from 0, and whether there is a header. Raises ValueError in doubt."""
    cells = [_normalize(cell) for cell in rows[0]] if rows else [""]
    if form.column and form.column.isdecimal():
        return _check_column(rows, int(form.column) - 1, form.header)
    names = [_normalize(form.column)] if form.column else form.find_candidates(cells)
    named = [at for name in names for at, cell in enumerate(cells) if cell == name]
    if named and form.header is not False:
        return named, True
    if form.column:
        raise ValueError(f"there is no column {form.column!r}; the first line has {', '.join(cells)[:200]}")
    if len(cells) > 1:
        raise ValueError(f"which of {len(cells)} columns has the users? None is called {form.names[0]}: {SAY_COLUMN}")
    return _check_column(rows, 0, form.header)


def _check_column(rows: Sequence[Sequence[str]], at: int, header: bool | None) -> tuple[list[int], bool]:
    """Return the column, and whether there is a header. Raises ValueError if the column is missing, or if its first
    cell may be a title."""
    column = [row[at].strip() for row in rows if 0 <= at < len(row)]
    if rows and not column:
        raise ValueError(f"there is no column {at + 1}")
    if header is None and column:
        first, others = column[0], [cell for cell in column[1:] if cell]
        differs = others and not has_digit(first) and all(map(has_digit, others))
        if TITLE.fullmatch(first[:80]) or differs:
            raise ValueError(f"is {first[:80]!r} a header, or a user? Say --header or --no-header")
    return [at], bool(header)


def _normalize(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().casefold())
