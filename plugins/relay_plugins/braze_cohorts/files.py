"""The users that a file names: CSV or NDJSON. What may not be meant is refused: a push replaces everybody."""

import csv
import json
import re
from codecs import iterdecode
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice, starmap
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import click

from relay_plugins.braze_cohorts.change import member_of

DELIMITERS: Final = ",;\t"
NAMES: Final = {
    "external_id": ("external_id", "external_user_id", "user_id", "id", "identity"),
    "device_id": ("device_id", "id", "identity"),
    "alias": ("alias_name", "alias", "id", "identity"),
    "prefix": ("identity", "id", "external_id", "external_user_id", "user_id", "device_id", "alias"),
}
"""What columns and fields with users are called, by what the ids are; the first that is there is used."""
TITLE: Final = re.compile(
    r"((account|alias|braze|contact|customer|device|e-?mail|external|heap|id|identity|key|label|mail|member|name|number|"
    r"profile|subscriber|user|uuid)s?[\s_.-]*){1,6}",
    re.IGNORECASE,
)
"""What people call such columns otherwise."""
SAY_COLUMN: Final = "say --column NAME or, counted from 1, --column NUMBER"
LOOK: Final = 1000
"""Lines that are compared with the first."""


class Form(NamedTuple):
    """How a file is read."""

    match: str = "external_id"
    """What the ids are."""
    column: str | None = None
    """The name or, from 1, the number of the column, or the name of the field, that has the users."""
    header: bool | None = None
    """Whether the first line of a CSV file is a header; None: it shows."""

    @property
    def names(self) -> Sequence[str]:
        """What the column may be called."""
        return (self.column,) if self.column is not None else NAMES[self.match.partition(":")[0]]


def users_in(file: IO[bytes], form: Form) -> list[str]:
    """The users that a file names, each once. Raises ClickException if it cannot be read, or names nobody."""
    try:
        users = [*dict.fromkeys(_users(file, form))]
        for user in users:
            member_of(user, form.match)
    except UnicodeDecodeError:
        raise click.ClickException(f"{file.name} is not UTF-8") from None
    except (csv.Error, ValueError) as error:
        raise click.ClickException(f"{file.name}: {error}") from None
    if not users:
        raise click.ClickException(f"{file.name} names no user; relay cohorts empty is for an empty membership")
    return users


def _users(file: IO[bytes], form: Form) -> Iterable[str]:
    """One by one: NDJSON if the first line is an object, or a text where nothing says CSV; else CSV. Raises
    ValueError."""
    lines = ((number, line) for number, line in enumerate(iterdecode(file, "utf-8-sig"), 1) if line.strip())
    number, first = next(lines, (1, ""))
    every = chain([(number, first)], lines)
    if _is_json(first, Path(str(getattr(file, "name", ""))).suffix.lower(), form):
        return starmap(partial(_user, form), every)
    if first.lstrip().startswith("["):
        raise ValueError("JSON is taken with one user a line (NDJSON)")
    return _cells(first, (line for _, line in every), form)


def _is_json(line: str, ending: str, form: Form) -> bool:
    """A line of CSV may be all in quotes, like a JSON text; then the file's name, the form, and what it says count."""
    if line.lstrip().startswith("{"):
        return True
    try:
        text = json.loads(line)
    except ValueError:
        return False
    is_csv = ending == ".csv" or form.header is not None
    return isinstance(text, str) and not is_csv and (ending == ".ndjson" or not TITLE.fullmatch(text[:80]))


def _user(form: Form, number: int, line: str) -> str:
    try:
        value: Any = json.loads(line)
    except ValueError as error:
        raise ValueError(f"line {number}: {line.strip()[:80]!r} is not JSON: {getattr(error, 'msg', error)}") from None
    if isinstance(value, dict):
        value = next((value[name] for name in form.names if name in value), None)
    if isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)
    fields = ", ".join(form.names)
    raise ValueError(f"line {number}: {line.strip()[:80]!r} has none of the fields {fields}: --column names another")


def _cells(first: str, lines: Iterable[str], form: Form) -> Iterator[str]:
    delimiter = max(DELIMITERS, key=lambda one: len(next(csv.reader([first], delimiter=one))))
    rows = csv.reader(lines, delimiter=delimiter)
    start = [row for row in islice(rows, LOOK) if row]
    at, has_header = _column(start, form)
    for row in chain(start[has_header:], rows):
        if at >= len(row):
            raise ValueError(f"{delimiter.join(row)[:80]!r} has no column {at + 1}")
        if user := row[at].strip():
            yield user


def _column(rows: Sequence[Sequence[str]], form: Form) -> tuple[int, bool]:
    """Which column has the users, from 0, and whether there is a header. Raises ValueError if that is not certain."""
    cells = [_plain(cell) for cell in rows[0]] if rows else [""]
    if form.column and form.column.isdecimal():
        return _numbered(rows, int(form.column) - 1, form.header)
    named = next((cells.index(_plain(name)) for name in form.names if _plain(name) in cells), None)
    if named is not None and form.header is not False:
        return named, True
    if form.column:
        raise ValueError(f"there is no column {form.column!r}; the first line has {', '.join(cells)[:200]}")
    if len(cells) > 1:
        raise ValueError(f"which of {len(cells)} columns has the users? None is called {form.names[0]}: {SAY_COLUMN}")
    return _numbered(rows, 0, form.header)


def _numbered(rows: Sequence[Sequence[str]], at: int, header: bool | None) -> tuple[int, bool]:
    column = [row[at].strip() for row in rows if 0 <= at < len(row)]
    if rows and not column:
        raise ValueError(f"there is no column {at + 1}")
    if header is None and column and _is_title(*column):
        raise ValueError(f"is {column[0][:80]!r} a header, or a user? Say --header or --no-header")
    return at, bool(header)


def _plain(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().casefold())


def _is_title(first: str, *others: str) -> bool:
    """Tell whether a cell looks like the title of its column, and like none of the others."""
    if TITLE.fullmatch(first[:80]):
        return True
    others = tuple(filter(None, others))
    return bool(others) and not re.search(r"[\d@]", first) and all(re.search(r"[\d@]", other) for other in others)
