"""Finds the files of the configuration, orders them, and parses them.

The folders are read as systemd reads its own: all files sorted by name, and of files with the same name only the one in
the first folder that has it, so that /etc overrides what a package ships. An empty file or a link to /dev/null masks
its name. `60-heap.toml.d/*.toml`, in any of the folders, override single keys of 60-heap.toml.
"""

import os
import re
import stat
import tomllib
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from msgspec import Struct

from relay.api.internal import NotPlain, read_plain
from relay.config.excerpt import hide_secrets, is_secret, make_excerpt
from relay.config.line_numbers import KeyPath, locate_keys
from relay.config.mistake import ConfigError, Mistake, format_path
from relay.config.syntax import make_syntax_mistake

NONE_PROPOSED: Final[Mapping[Path, str | None]] = MappingProxyType({})
FILE_PREFIXES: Final = {"source": 20, "filter": 40, "connector": 60, "alert": 80}
"""What the names of files begin with that relay writes for a table, by kind."""
LEFTOVERS: Final = (".dpkg-", ".rpmnew", ".rpmsave")
"""Endings of files that package managers leave beside a file that they do not replace."""
LOOKALIKES: Final = (".toml", ".tml", ".conf", ".cfg", ".ini", ".yaml", ".yml")
"""Endings, in any case, of files that somebody may take for part of the configuration."""
MOST_BYTES: Final = 1 << 20
"""A larger file is refused: reading it would take longer than a start may take."""
MOST_NAME_BYTES: Final = 200
MOST_NESTED: Final = 32
"""Levels of tables and arrays in a file."""
DIGITS: Final = re.compile(r"\d[\d_]{4299}")
"""Digits of an integer, at most, as Python reads no more."""
DEEP_KEY: Final = re.compile(
    r"""(?:^|[\[{,])[ \t]*+(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){200}""", re.MULTILINE
)
"""Parts of a key, at most: the parser's time grows with their square."""
INTEGERS: Final = range(-(1 << 63), 1 << 63)
"""Integers of TOML."""


@dataclass(frozen=True)
class Document:
    """A file of valid TOML. `base`: the file whose keys it overrides, or its own name."""

    name: str
    base: str
    text: str
    table: dict[str, Any]

    def find_line(self, path: Sequence[str | int]) -> int | None:
        """Return the line of the key, or of its nearest parent, in this file."""
        starts = (tuple(path[:length]) for length in range(len(path), 0, -1))
        return next((self._located[start] for start in starts if start in self._located), None)

    @cached_property
    def _located(self) -> Mapping[KeyPath, int]:
        return locate_keys(self.text)

    @cached_property
    def _lines(self) -> list[str]:
        return self.text.split("\n")  # splitlines() knows line ends that TOML does not

    def make_mistake(self, path: Sequence[str | int], reason: str, suggestion: str | None, *, private: bool) -> Mistake:
        """Make a mistake about this key. `private` keeps its value out of the excerpt."""
        line = self.find_line(path)
        shown = "" if line is None else make_excerpt(self._lines[line - 1], private=private or is_secret(path))
        return Mistake(
            file=self.name,
            line=line,
            key=format_path(path),
            reason=hide_secrets(reason),
            suggestion=suggestion,
            excerpt=shown,
        )


@dataclass(frozen=True, slots=True)
class Text:
    """The text of a file, which can be read again whatever is on disk by then."""

    name: str
    base: str
    text: str = field(repr=False)


class FoundFiles(Struct, frozen=True):
    """The documents in their order, and the mistakes of the files as such."""

    documents: list[Document] = []
    mistakes: list[Mistake] = []
    warnings: list[Mistake] = []
    unread: list[str] = []
    """Missing files. What seems to be lacking may be in them."""
    proposed: Mapping[Path, str | None] = {}
    """Texts that count in place of files; None: there is no such file."""
    spelled_out: Path | None = None
    """The folder whose files are named by their whole path: nobody would look for them there."""

    def name(self, path: Path, short: str) -> str:
        """Return the name of a file for people."""
        return str(path) if self.spelled_out and path.is_relative_to(self.spelled_out) else short


def read_files(
    folders: Sequence[Path],
    proposed: Mapping[Path, str | None] = NONE_PROPOSED,
    spelled_out: Path | None = None,
) -> FoundFiles:
    """Read all files of the configuration. The first folder wins where several have a file of the same name.

    `proposed`, `spelled_out`: as in `FoundFiles`.
    """
    reading = FoundFiles(proposed=proposed, spelled_out=spelled_out)
    if not (proposed or any(folder.exists() for folder in folders)):
        listed = ", ".join(map(str, folders))
        reading.mistakes.append(Mistake(reason=f"there is no configuration folder; looked for {listed}"))
        reading.unread.append(listed)
        return reading
    files = _in_order(folders, reading)
    for path in files:
        if _read_file(path, reading.name(path, path.name), path.name, reading):
            for override in _in_order([folder / f"{path.name}.d" for folder in folders], reading):
                name = reading.name(override, f"{path.name}.d/{override.name}")
                _read_file(override, name, path.name, reading)
    names = {path.name for path in files}
    overriding = {*chain(*(folder.glob("*.toml.d") for folder in folders))}
    overriding |= {path.parent for path, text in proposed.items() if text and path.parent not in folders}
    for path in sorted(overriding):
        if (overridden := path.name.removesuffix(".d")) not in names:
            shown = reading.name(path, path.name)
            reading.warnings.append(Mistake(file=shown, reason=f"overrides nothing: there is no {overridden}"))
    above = [folder for folder in folders if not files and any((folder / "conf.d").glob("*.toml"))]
    if above:
        reason = f"there is no *.toml in {above[0]}: {above[0] / 'conf.d'} is probably meant"
        reading.mistakes.append(Mistake(reason=reason))
    else:
        reading.warnings.extend(_find_unread_files(folders, reading))
    if reading.unread:
        more = f"{', '.join(reading.unread)} could not be read: relay check may find more once that is corrected"
        reading.warnings.append(Mistake(reason=more))
    return reading


def read_texts(folder: Path) -> dict[str, str]:
    """Return the text of every file of a folder of the configuration, by its name. Raises ConfigError."""
    reading = read_files([folder])
    if reading.mistakes:
        raise ConfigError(reading.mistakes, reading.warnings)
    return {one.name: one.text for one in reading.documents}


def read_again(texts: Sequence[Text]) -> FoundFiles:
    """Read the same texts again, in the same order."""
    reading = FoundFiles()
    for one in texts:
        _take(parse_document(one.name, one.base, one.text.encode()), one.name, reading)
    return reading


def _in_order(folders: Sequence[Path], reading: FoundFiles) -> list[Path]:
    found: dict[str, Path] = {}
    for folder in folders:
        names: set[str] = set()
        try:
            names |= {path.name for path in folder.iterdir()}
        except FileNotFoundError:
            pass
        except OSError as error:
            reading.mistakes.append(Mistake(file=str(folder), reason=f"cannot be read: {error.strerror}"))
            reading.unread.append(str(folder))
            continue
        for path, text in reading.proposed.items():
            if path.parent == folder:
                names = names - {path.name} if text is None else names | {path.name}
        for name in filter(counts, names):
            found.setdefault(name, folder / name)
    return [found[name] for name in sorted(found)]


def name_file(kind: str, name: str) -> str:
    """Return the name of the file that relay writes for a new table."""
    return f"{FILE_PREFIXES[kind]}-{name}.toml"


def is_file_name(name: str) -> bool:
    """Return whether a name such as "60-heap.toml" or "60-heap.toml.d/50-more.toml" is that of a file that counts."""
    *above, last = name.split("/")
    folders = [one.removesuffix(".d") for one in above if one.endswith(".d")]
    plain = all(part.isprintable() and len(part.encode()) <= MOST_NAME_BYTES for part in (*above, last))
    return len(folders) == len(above) <= 1 and plain and all(map(counts, [*folders, last]))


def counts(name: str) -> bool:
    """Return whether a file or folder of this name is part of the configuration."""
    return name.endswith(".toml") and name[0] not in ".#" and not any(part in name for part in LEFTOVERS)


def _read_file(path: Path, name: str, base: str, reading: FoundFiles) -> bool:
    """Read one file into `reading`; return False if it masks its name."""
    if (text := reading.proposed.get(path)) is not None:
        if text:
            _take(parse_document(name, base, text.encode(errors="surrogatepass")), name, reading)
        return bool(text)
    try:
        about = path.stat()
        is_null = stat.S_ISCHR(about.st_mode) and about.st_rdev == Path(os.devnull).stat().st_rdev
        content = b"" if is_null else read_plain(path, MOST_BYTES)
        if not content:
            return False
        if about.st_mode & stat.S_IWOTH:
            reading.mistakes.append(Mistake(file=name, reason=f"anybody may write it: chmod o-w {path}"))
        document = parse_document(name, base, content)
    except OSError as error:
        document = Mistake(file=name, reason=f"cannot be read: {error.strerror}")
    except NotPlain as error:
        document = Mistake(file=name, reason=str(error))
    _take(document, name, reading)
    return True


def _take(document: Document | Mistake, name: str, reading: FoundFiles) -> None:
    if isinstance(document, Mistake):
        reading.mistakes.append(document)
        reading.unread.append(name)
    else:
        reading.documents.append(document)


def parse_document(name: str, base: str, content: bytes) -> Document | Mistake:
    """Parse the TOML of a file, with a byte order mark or without."""
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        coding = "UTF-16" if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "not UTF-8"
        number = content.count(b"\n", 0, error.start) + 1
        return Mistake(file=name, line=number, reason=f"is {coding}: save it as UTF-8")
    if found := DEEP_KEY.search(text):
        return Mistake(file=name, line=_line_at(text, found.start()), reason="a key of more than 200 parts")
    too_deep = Mistake(file=name, reason=f"is nested more than {MOST_NESTED} levels deep")
    try:
        document = Document(name, base, text, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        return make_syntax_mistake(name, text, str(error))
    except RecursionError:
        return too_deep
    except ValueError:  # the parser leaves this one to Python
        found = DIGITS.search(text)
        line = _line_at(text, found.start()) if found else None
        return Mistake(file=name, line=line, reason="a number of more than 4,300 digits")
    if _is_deep(document.table):
        return too_deep
    return next(
        (document.make_mistake(*huge, None, private=False) for huge in _find_huge_numbers((), document.table)), document
    )


def _line_at(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _is_deep(table: Mapping[str, Any]) -> bool:
    level: list[Any] = [table]
    for _ in range(MOST_NESTED):
        inner = [value for one in level for value in (one.values() if isinstance(one, dict) else one)]
        level = [value for value in inner if isinstance(value, dict | list)]
    return bool(level)


def _find_huge_numbers(path: KeyPath, value: object) -> Iterator[tuple[KeyPath, str]]:
    """Find numbers that are no integers of TOML."""
    match value:
        case dict() | list():
            for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
                yield from _find_huge_numbers((*path, key), inner)
        case int() if value not in INTEGERS:
            yield path, "is no integer of 64 bits"


def _find_unread_files(folders: Sequence[Path], reading: FoundFiles) -> Iterator[Mistake]:
    """Find files that look as if they were to be read."""
    for folder in folders:
        with suppress(OSError):  # that it cannot be read is told already
            for path in sorted(folder.iterdir()):
                name = path.name
                if not counts(f"{name}.toml") or name.endswith((".toml", ".toml.d")):
                    continue
                shown = reading.name(path, name)
                if path.suffix.lower() in LOOKALIKES:
                    yield Mistake(file=shown, reason="is not read: name it .toml, in lower case")
                elif any(path.glob("*.toml")):
                    advice, base = "put them beside it", f"{path.stem}.toml"
                    if path.suffix == ".d":
                        advice = f"name it {base}.d if it overrides keys of {base}, else {advice}"
                    yield Mistake(file=shown, reason=f"is a folder whose files are not read: {advice}")


def find_event_file(path: Path, folders: Sequence[Path]) -> Path:
    """Return a file of events by its path from a folder of conf.d; of several the first. Raises OSError."""
    for place in [folder / path for folder in folders]:
        if place.is_file():  # raises PermissionError
            return place
    if any((folder / path).exists() for folder in folders):
        raise OSError(f"{path} is no file")
    raise OSError(f"there is no file {path}" + ("" if path.is_absolute() else f" in {', '.join(map(str, folders))}"))
