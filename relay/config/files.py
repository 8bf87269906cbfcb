"""Which files make up the configuration, in which order, and what they say.

The folders are read as systemd reads its own: all files sorted by name, and of files with the same name only the one in
the first folder that has it, so that /etc overrides what a package ships. An empty file or a link to /dev/null masks
its name. `60-heap.toml.d/*.toml`, in any of the folders, override single keys of 60-heap.toml.
"""

import re
import stat
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from relay.config.locate import locate
from relay.config.mistake import Mistake, dotted
from relay.config.private import excerpt, without_secrets

CONF_FOLDERS: Final = (Path("/etc/relay/conf.d"), Path("/run/relay/conf.d"), Path("/usr/lib/relay/conf.d"))

LEFTOVERS: Final = (".dpkg-", ".rpmnew", ".rpmsave")
"""What package managers leave beside a file that they did not dare to replace."""


@dataclass(frozen=True, slots=True)
class Document:
    """A file of valid TOML. `base` is the file that it overrides keys of, or its own name."""

    name: str
    base: str
    text: str
    table: dict[str, Any]

    def line(self, path: Sequence[str | int]) -> int | None:
        """The line of the key or of its nearest parent in this file."""
        return locate(self.text, path)

    def mistake(self, path: Sequence[str | int], reason: str, suggestion: str | None, *, private: bool) -> Mistake:
        """Make a mistake of something about this key; `private` keeps its value out of the excerpt."""
        line = self.line(path)
        return Mistake(
            file=self.name,
            line=line,
            key=dotted(path),
            reason=without_secrets(reason),
            suggestion=suggestion,
            excerpt=_excerpt(self.text, line, private=private),
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """What was found: the documents in their order, and what is wrong with the files as such."""

    documents: list[Document] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)
    warnings: list[Mistake] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    """The files that should be there and are not: what seems to be lacking may stand in one of them."""


def read(folders: Sequence[Path]) -> Reading:
    """Read all files of the configuration."""
    reading = Reading()
    if not any(folder.exists() for folder in folders):
        listed = ", ".join(map(str, folders))
        reading.mistakes.append(Mistake(reason=f"there is no configuration folder; looked for {listed}"))
        reading.unread.append(listed)
    files = _in_order(folders, reading)
    for path in files:
        if _read_file(path, path.name, path.name, reading):
            for override in _in_order([folder / f"{path.name}.d" for folder in folders], reading):
                _read_file(override, f"{path.name}.d/{override.name}", path.name, reading)
    reading.warnings.extend(_pointless_overrides(folders, {path.name for path in files}))
    return reading


def _in_order(folders: Sequence[Path], reading: Reading) -> list[Path]:
    found: dict[str, Path] = {}
    for folder in folders:
        try:
            names = [path.name for path in folder.iterdir()]
        except FileNotFoundError:
            continue
        except OSError as error:
            reading.mistakes.append(Mistake(file=str(folder), reason=f"cannot be read: {error.strerror}"))
            reading.unread.append(str(folder))
            continue
        for name in filter(_counts, names):
            found.setdefault(name, folder / name)
    return [found[name] for name in sorted(found)]


def _counts(name: str) -> bool:
    return name.endswith(".toml") and name[0] not in ".#" and not any(part in name for part in LEFTOVERS)


def _read_file(path: Path, name: str, base: str, reading: Reading) -> bool:
    """Read one file into `reading`; return False if it masks its name."""
    text, before = "", len(reading.documents)
    try:
        mode, text = path.stat().st_mode, path.read_text("utf-8")
        if not text:
            return False
        if mode & stat.S_IWOTH:
            reading.mistakes.append(Mistake(file=name, reason=f"anybody may write it: chmod o-w {path}"))
        reading.documents.append(Document(name, base, text, tomllib.loads(text)))
    except OSError as error:
        reading.mistakes.append(Mistake(file=name, reason=f"cannot be read: {error.strerror}"))
    except UnicodeDecodeError:
        reading.mistakes.append(Mistake(file=name, reason="is not UTF-8"))
    except tomllib.TOMLDecodeError as error:
        reading.mistakes.append(_syntax_mistake(name, text, str(error)))
    if len(reading.documents) == before:
        reading.unread.append(name)
    return True


def _syntax_mistake(name: str, text: str, said: str) -> Mistake:
    match = re.search(r"at line (\d+), column (\d+)", said)
    if not match:  # the end of the file
        return Mistake(file=name, line=len(text.splitlines()), reason=f"not TOML: {said}")
    line, column = int(match[1]), int(match[2])
    reason = f"not TOML: {said}" + _hint(text.split("\n")[line - 1], column, said)
    return Mistake(file=name, line=line, reason=reason, excerpt=_excerpt(text, line, private=True))


def _hint(line: str, column: int, said: str) -> str:
    """What to do about a bare word, as in `type = http` or `timeout = 30s`; nothing if there is none."""
    before, word = line[: column - 1], re.match(r"[^\s\"'=,#\[\]{}]*", line[column - 1 :])
    if not word or not word[0] or not (said.startswith("Invalid value") or re.search(r"=\s*[\w.:+-]+$", before)):
        return ""
    return "; true and false are lower case" if word[0] in ("True", "False") else "; strings need quotes"


def _excerpt(text: str, line: int | None, *, private: bool) -> str:
    return "" if line is None else excerpt(text.split("\n")[line - 1].rstrip(), private=private)


def _pointless_overrides(folders: Sequence[Path], names: set[str]) -> Iterator[Mistake]:
    for folder in folders:
        for path in sorted(folder.glob("*.toml.d")):
            overridden = path.name.removesuffix(".d")
            if overridden not in names:
                yield Mistake(file=path.name, reason=f"overrides nothing: there is no {overridden}")
