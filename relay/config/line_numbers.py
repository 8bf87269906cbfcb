"""Finds the lines of all keys of a TOML text in one pass.

The standard parser has accepted the text, and reads the keys here as well. So this only finds where keys, values,
arrays and tables begin and end.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

KeyPath = tuple[str | int, ...]

_BARE: Final = r"[A-Za-z0-9_-]++"
_QUOTED: Final = r""""(?:\\.|[^"\\])*+"|'[^']*+'"""
_KEY: Final = rf"(?:{_BARE}|{_QUOTED})(?:[ \t]*+\.[ \t]*+(?:{_BARE}|{_QUOTED}))*+"
_TOKEN: Final = re.compile(
    rf"""
      \#[^\n]*+                                            # a comment
    | (?P<value> \"{{3}}(?:\\.|[^\\])*?\"{{3}}(?!\")       # texts of several lines
               | '{{3}}.*?'{{3}}(?!') )
    | (?P<key> {_KEY} )[ \t]*+=
    | (?P<text> {_QUOTED} | [^\s\[\]{{}},="'\#]++ )
    | (?P<mark> [][{{}},] )
    """,
    re.VERBOSE | re.DOTALL,
)
_HEADER: Final = re.compile(rf"\[(?P<again>\[)?[ \t]*+(?P<key>{_KEY})[ \t]*+\]\]?", re.DOTALL)


def locate_keys(text: str) -> Mapping[KeyPath, int]:
    """Return the line (from 1) at which each key, table and entry of an array first begins."""
    return _Pass(text).lines


def locate_last(text: str) -> tuple[KeyPath, int]:
    """Return the last key or table of a text that has one, and the line at which it first begins."""
    seen = _Pass(text)
    return seen.last, seen.lines[seen.last]


class _Pass:
    """One pass over a text."""

    def __init__(self, text: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._line = 1
        self._open: list[tuple[KeyPath, int | None]] = [((), None)]
        """The table of the last header, with its open arrays (and the number of an entry) and inline tables."""
        self._assigned: KeyPath | None = None
        """The key of the next value."""
        self.last: KeyPath = ()
        """The last key or table."""
        self._headers = Counter[KeyPath]()
        at = 0
        while token := _TOKEN.search(text, at):
            self._line += text.count("\n", at, token.start())
            is_between = self._assigned is None and len(self._open) == 1
            header = _HEADER.match(text, token.start()) if token["mark"] == "[" and is_between else None
            if header:
                self._enter_table(_read_keys(header["key"]), again=header["again"] is not None)
            elif token["key"]:
                self.last = self._assigned = self._note(self._open[-1][0], _read_keys(token["key"]))
            elif token["mark"]:
                self._follow(token["mark"])
            elif token["value"] or token["text"]:
                self._begin_value()
            end = (header or token).end()
            self._line += text.count("\n", token.start(), end)
            at = end

    def _note(self, table: KeyPath, keys: KeyPath) -> KeyPath:
        for length in range(len(table) + 1, len(table) + len(keys) + 1):
            self.lines.setdefault((*table, *keys)[:length], self._line)
        return (*table, *keys)

    def _enter_table(self, keys: KeyPath, *, again: bool) -> None:
        """Note a header. It counts within the last table of each [[name]] on its way."""
        path: KeyPath = ()
        for number, key in enumerate(keys):
            self.last = path = self._note(path, (key,))
            if again and number == len(keys) - 1:
                self._headers[path] += 1
            if path in self._headers:
                path = self._note(path, (self._headers[path] - 1,))
        self._open = [(path, None)]

    def _begin_value(self) -> KeyPath:
        """Return the path of the value that begins here."""
        path, self._assigned = self._assigned, None
        parent, number = self._open[-1]
        if path is None and number is not None:
            path = self._note(parent, (number,))
        return parent if path is None else path

    def _follow(self, mark: str) -> None:
        if mark in "[{":
            self._open.append((self._begin_value(), 0 if mark == "[" else None))
        elif mark in "]}":
            self._open.pop()
        elif (entry := self._open[-1])[1] is not None:
            self._open[-1] = (entry[0], entry[1] + 1)


def _read_keys(written: str) -> KeyPath:
    """Read a dotted key."""
    if re.fullmatch(_BARE, written):
        return (written,)
    keys = list[str]()
    inner: Any = tomllib.loads(f"{written} = 0")
    while isinstance(inner, dict):
        ((key, inner),) = inner.items()
        keys.append(key)
    return tuple(keys)
