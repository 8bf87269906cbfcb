"""The filter type `lookup`: sets fields from a CSV file, by a key.

How it fails and recovers: the file is read in a thread, at the start and whenever it has changed. A file with mistakes
leaves the rows that were read before, until it is mended. Without such rows, the filter does not open, and its
connector waits: a file of data is no configuration, and holds up neither relay nor other connectors.
"""

import asyncio
import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

from msgspec import Raw, ValidationError
from msgspec.json import Decoder, encode
from pydantic import AfterValidator, Field

from relay.api import Contradiction, Event, Filter, FilterSettings, read_plain
from relay_plugins.filters.change import Json, find_place, get, make_event_change, open_object, put
from relay_plugins.filters.field import FreeSinglePath, SinglePath, describe_overlap, describe_typos

MOST_BYTES: Final = 64 << 20
LOOK_S: Final = 2.0
"""How soon a change of the file is noticed. A file that somebody still writes is left for the next time."""
READ_S: Final = 30.0
"""How long a look at the file may take."""
COLUMNS_SHOWN: Final = 20
_decode_key: Final = Decoder(str | int).decode
Rows = Mapping[str, Sequence[Raw | None]]
"""The values of each key, as JSON; None for an empty cell."""
Stamp = tuple[int, int, int]
"""Which file it is, and in which state: two different stamps are two contents."""


def _check_absolute(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("write the path from / on: relay runs in another folder than you do")
    return path


class TableError(ValueError):
    """Raised for a file that cannot be used. Its text names the file and the line."""


class Lookup(Filter, type="lookup"):
    """Sets fields of an event from the row of a CSV file that has the event's key."""

    stateful = True

    class Settings(FilterSettings):
        """The file, the key, and the fields."""

        file: Annotated[str, AfterValidator(_check_absolute)]
        """Path of the CSV file: UTF-8, with commas, and the names of the columns in the first line. At most 64 MiB.

        relay reads the file again within seconds after a change. A file with a mistake leaves the rows before in force.
        At a start there are no such rows: the connector waits until the file is mended. The log and `relay status` name
        the line. Write a new file beside it, and move the new file over it.
        """
        key: SinglePath
        """The field of an event that is looked up, such as `"properties.campaign_id"`: a text or an integer."""
        column: str = ""
        """Column of the file with the keys, each of which may occur once. Empty: the first column."""
        fields: dict[FreeSinglePath, str] = Field(min_length=1)
        """The fields that are set, each with the column of its value: `{ "properties.team" = "team" }`. All values are
        texts. An empty cell sets nothing."""

        def contradictions(self) -> Iterator[Contradiction]:
            """Yield paths that lead into each other."""
            yield from describe_overlap("fields", self.fields)

        def warnings(self) -> Iterator[Contradiction]:
            """Yield a key that is probably a typo, and a file that cannot be used."""
            yield from describe_typos("key", [self.key])
            try:
                self.read_rows()
            except TableError as error:
                yield "file", f"{error}; the connector waits until the file is mended"

        def read_rows(self) -> Rows:
            """Read the file. It blocks. Raises TableError."""
            try:
                return _read_rows(self.file, self.column, [*self.fields.values()])
            except (OSError, ValueError) as error:
                if isinstance(error, TableError):
                    raise
                reason = error.strerror if isinstance(error, OSError) else error
                raise TableError(f"{self.file} cannot be read: {reason}") from None

    settings: Settings

    def __init__(self, name: str, settings: Settings) -> None:
        super().__init__(name, settings)
        self._change = make_event_change([settings.key], self._look_up)
        self._key = find_place(settings.key)
        self._places = [*map(find_place, settings.fields)]
        self._rows: Rows = {}
        self._read: Stamp | None = None
        """The stamp of the file when it was read last."""
        self._watch: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Read the file, and begin to watch it. Raises OSError."""
        try:
            self._rows = await self.run_blocking(self._read_file)
        except TableError as error:
            raise OSError(str(error)) from None  # the fault of a file, no bug to trace
        self._watch = asyncio.get_running_loop().create_task(self._keep_looking(), name=f"filter {self.name}: watch")

    async def close(self) -> None:
        """End the watch."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch

    def apply(self, event: Event) -> Event:
        """Return the event with the fields of its key's row; without such a row the event as it is. Raises ValueError
        if something else is in the way."""
        return self._change(event)

    def _look_up(self, body: Json) -> Json:
        parts = open_object(body)
        row = self._rows.get(_read_key(get(parts, self._key)))
        if row is None:
            return body
        is_changed = False
        for place, value in zip(self._places, row, strict=True):
            if value is not None:
                is_changed = put(parts, place, value) or is_changed
        return encode(parts) if is_changed else body

    async def _keep_looking(self) -> None:
        """Read the file whenever it has changed, for ever."""
        seen = self._read
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                async with asyncio.timeout(READ_S):
                    seen, before = await self.run_blocking(_read_stamp, self.settings.file), seen
                    if seen == before and seen != self._read:
                        self._rows = await self.run_blocking(self._read_file)
                        self.notice = ""
                        self.log.info("lookup file is read anew", file=self.settings.file, keys=len(self._rows))
            except (TableError, TimeoutError) as error:
                reason = str(error) or f"{self.settings.file} cannot be read within {READ_S:g}s"
                before_this, self.notice = self.notice, f"{reason}; the rows before stay in force"
                if self.notice != before_this:
                    self.log.error("lookup file cannot be used", reason=reason)

    def _read_file(self) -> Rows:
        """Read the file, and note which one it was. It blocks. Raises TableError."""
        self._read = _read_stamp(self.settings.file)
        return self.settings.read_rows()


def _read_stamp(file: str) -> Stamp | None:
    """Return the stamp of a file; None if there is no file."""
    try:
        about = Path(file).stat()
    except OSError:
        return None
    return about.st_ino, about.st_size, about.st_mtime_ns


def _read_key(value: Raw | None) -> str:
    """Return a value as a key; "" for what is no key."""
    try:
        return "" if value is None else str(_decode_key(value))
    except ValidationError:
        return ""


def _read_rows(file: str, column: str, wanted: Sequence[str]) -> Rows:
    """Read a CSV file. Raises TableError, OSError and ValueError."""
    content = read_plain(Path(file), MOST_BYTES)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TableError(f"{file}:{line}: is not UTF-8") from None
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    found: dict[str, Sequence[Raw | None]] = {}
    at: dict[str, int] = {}
    """The line of each key."""
    line = 1
    try:
        names = next(lines, [])
        key_column, *columns = [_find_column(names, name) for name in (column or (*names, "")[0], *wanted)]
        line = lines.line_num + 1
        for row in lines:
            if row:
                if len(row) != len(names):
                    raise ValueError(f"has {len(row)} values, and the first line has {len(names)} names")
                key = row[key_column]
                if not key or key in found:
                    raise ValueError(f"has the same key as line {at[key]}" if key else "has no key")
                found[key] = [Raw(encode(row[column])) if row[column] else None for column in columns]
                at[key] = line
            line = lines.line_num + 1
    except (ValueError, csv.Error) as error:
        raise TableError(f"{file}:{line}: {error}") from None
    return found


def _find_column(names: Sequence[str], name: str) -> int:
    """Return the number of a column. Raises ValueError."""
    if names.count(name) != 1:
        listed = ", ".join(names[:COLUMNS_SHOWN]) or "none"
        raise ValueError(f"has {names.count(name) or 'no'} columns {name!r}; columns: {listed}")
    return names.index(name)
