"""The users that a file names: CSV or NDJSON. What may not be meant is refused: a push replaces everybody."""

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

from relay_plugins.braze_cohorts.change import member_of
from relay_plugins.braze_cohorts.damage import IF_RIGHT, check_undamaged, is_sum

DELIMITERS: Final = ",;\t"
NAMES: Final = {
    "external_id": ("external_id", "external_user_id", "user_id", "id", "identity"),
    "device_id": ("device_id", "id", "identity"),
    "alias": ("alias_name", "alias", "id", "identity"),
    "prefix": ("identity", "id", "external_id", "external_user_id", "user_id", "device_id", "alias"),
}
"""What columns and fields with users are called, by what the ids are."""
CERTAIN: Final = {
    "external_id": ("external_id", "external_user_id"),
    "device_id": ("device_id",),
    "alias": ("alias_name", "alias"),
    "prefix": ("identity",),
}
"""Those of them that can be nothing else. The others have to agree, where there are several."""
HEAPS_OWN: Final = {"identity", "user_id"}
"""A file with both is Heap's export: its user id is Heap's own number."""
SEPARATOR: Final = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
"""What Excel may write before the header."""
EXCEL: Final = 'from Excel save it as "CSV UTF-8 (Comma delimited)"'
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
    as_is: bool = False
    """Whether what looks like damage is taken too."""

    @property
    def names(self) -> Sequence[str]:
        """What the column may be called."""
        return (self.column,) if self.column is not None else NAMES[self.match.partition(":")[0]]

    def candidates(self, known: Sequence[str]) -> list[str]:
        """Which of these names may have the users: the first does, if the others say the same."""
        found = [name for name in self.names if name in known]
        certain = [name for name in found if name in CERTAIN[self.match.partition(":")[0]]]
        if not certain and {*found} >= HEAPS_OWN:
            found.remove("user_id")
            found.sort(key=lambda name: name != "identity")
        return certain or found


def users_in(file: IO[bytes], form: Form) -> list[str]:
    """The users that a file names, each once. Raises ClickException if it cannot be read, or names nobody."""
    try:
        users = [*dict.fromkeys(_users(file, form))]
        for user in users:
            member_of(user, form.match)
        if not form.as_is:
            check_undamaged(users)
    except UnicodeDecodeError:
        raise click.ClickException(f"{file.name} is neither UTF-8 nor UTF-16: {EXCEL}") from None
    except (csv.Error, ValueError) as error:
        raise click.ClickException(f"{file.name}: {error}") from None
    if not users:
        raise click.ClickException(f"{file.name} names no user; relay cohorts empty is for an empty membership")
    return users


def _users(file: IO[bytes], form: Form) -> Iterable[str]:
    """One by one: NDJSON if the first line is an object, or a text where nothing says CSV; else CSV. Raises
    ValueError."""
    lines = ((number, line) for number, line in enumerate(_lines(file), 1) if line.strip())
    number, first = next(lines, (1, ""))
    every = chain([(number, first)], lines)
    if _is_json(first, Path(str(getattr(file, "name", ""))).suffix.lower(), form):
        return starmap(partial(_user, form), every)
    if first.lstrip().startswith("["):
        raise ValueError("JSON is taken with one user a line (NDJSON)")
    return _cells(first, (line for _, line in every), form)


def _lines(file: IO[bytes]) -> Iterator[str]:
    """The lines of a file, in UTF-8 or, if it says so by its first bytes, UTF-16."""
    first = file.readline()
    if first.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        return StringIO((first + file.read()).decode("utf-16"), newline="")
    if b"\0" in first:
        raise ValueError(f"this is no text, or UTF-16 that does not say so: {EXCEL}")
    return iterdecode(chain([first], file), "utf-8-sig")


def _is_json(line: str, ending: str, form: Form) -> bool:
    """A line of CSV may be all in quotes, like a JSON text; then the file's name, the form, and what it says count."""
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


def _user(form: Form, number: int, line: str) -> str:
    try:
        value: Any = json.loads(line, object_pairs_hook=_once_each)
    except ValueError as error:
        raise ValueError(f"line {number}: {line.strip()[:80]!r} is not JSON: {getattr(error, 'msg', error)}") from None
    if isinstance(value, dict):
        value = _agreed([(name, value[name]) for name in form.candidates([*value])] or [("", None)])
    if isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)
    fields = ", ".join(form.names)
    raise ValueError(f"line {number}: {line.strip()[:80]!r} has none of the fields {fields}: --column names another")


def _once_each(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object of which no name is there twice with different values. Raises ValueError."""
    found = dict(pairs)
    for name, value in pairs:
        if found[name] != value:
            raise ValueError(f"{name[:80]!r} is there twice: {value!r:.80} and {found[name]!r:.80}")
    return found


def _agreed(found: Sequence[tuple[str, Any]]) -> Any:
    """The value that all candidates (name, value) have. Raises ValueError."""
    (name, value), *others = found
    for other, its in others:
        if its != value:
            raise ValueError(f"which has the users, {name} ({value!r:.80}) or {other} ({its!r:.80})? {SAY_COLUMN}")
    return value


def _cells(first: str, lines: Iterable[str], form: Form) -> Iterator[str]:
    said = SEPARATOR.fullmatch(first)
    delimiter = said[1] if said else max(DELIMITERS, key=lambda one: len(next(csv.reader([first], delimiter=one))))
    rows = csv.reader(islice(lines, 1 if said else 0, None), delimiter=delimiter)
    start = [row for row in islice(rows, LOOK) if row]
    columns, has_header = _columns(start, form)
    titles, row = start[0] if has_header else [], list[str]()
    for row in chain(start[has_header:], rows):
        if max(columns) >= len(row):
            raise ValueError(f"{delimiter.join(row)[:80]!r} has no column {max(columns) + 1}")
        if titles and any(cell.strip() for cell in row[len(titles) :]):
            raise ValueError(f"{delimiter.join(row)[:80]!r} has more columns than the header")
        if row == titles and not form.as_is:
            raise ValueError(f"{delimiter.join(row)[:80]!r} is the header once more: remove the line; {IF_RIGHT}")
        if user := _agreed([(titles[at] if titles else "", row[at].strip()) for at in columns]):
            yield user
    if is_sum(row) and not form.as_is:
        raise ValueError(f"the last line, {delimiter.join(row)[:80]!r}, is that of a sum: remove it; {IF_RIGHT}")


def _columns(rows: Sequence[Sequence[str]], form: Form) -> tuple[list[int], bool]:
    """Which columns have the users, from 0, and whether there is a header. Raises ValueError if that is not certain."""
    cells = [_plain(cell) for cell in rows[0]] if rows else [""]
    if form.column and form.column.isdecimal():
        return _numbered(rows, int(form.column) - 1, form.header)
    names = [_plain(form.column)] if form.column else form.candidates(cells)
    named = [at for name in names for at, cell in enumerate(cells) if cell == name]
    if named and form.header is not False:
        return named, True
    if form.column:
        raise ValueError(f"there is no column {form.column!r}; the first line has {', '.join(cells)[:200]}")
    if len(cells) > 1:
        raise ValueError(f"which of {len(cells)} columns has the users? None is called {form.names[0]}: {SAY_COLUMN}")
    return _numbered(rows, 0, form.header)


def _numbered(rows: Sequence[Sequence[str]], at: int, header: bool | None) -> tuple[list[int], bool]:
    column = [row[at].strip() for row in rows if 0 <= at < len(row)]
    if rows and not column:
        raise ValueError(f"there is no column {at + 1}")
    if header is None and column and _is_title(*column):
        raise ValueError(f"is {column[0][:80]!r} a header, or a user? Say --header or --no-header")
    return [at], bool(header)


def _plain(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().casefold())


def _is_title(first: str, *others: str) -> bool:
    """Tell whether a cell looks like the title of its column, and like none of the others."""
    if TITLE.fullmatch(first[:80]):
        return True
    others = tuple(filter(None, others))
    return bool(others) and not re.search(r"[\d@]", first) and all(re.search(r"[\d@]", other) for other in others)
