"""Tables as files: what the console's files would be with a table as somebody wants it. Pure.

A new table gets a file of its own. In a file of the console, keys change in place: comments and keys by hand stay. The
keys of a person's file change by a drop-in that says only what differs.
"""

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any, Final

import tomlkit
from tomlkit.exceptions import TOMLKitError

from relay.config import (
    FILE_PREFIXES,
    NAME,
    ConfigError,
    Document,
    KeyPath,
    Mistake,
    format_path,
    is_file_name,
    is_reference,
    name_file,
)
from relay.console.edits.conf import MARK, ConfView
from relay.words import format_toml, format_toml_table

Files = Mapping[str, str | None]
"""Files of the console as they would be, by name in its folder; None: the file is removed."""
Leaves = dict[KeyPath, Any]
"""The values of a table by path. A list, and a reference to a secret, is one value."""
DROP_IN: Final = "50-console.toml"


def put_table(view: ConfView, kind: str, name: str, values: Mapping[str, Any], known: Mapping[KeyPath, Any]) -> Files:
    """Return the files with a table as it should be; those that stay as they are are left out.

    `values`: the whole table as in TOML, without defaults. `known`: the keys that the form manages, by path within the
    table (a path stands for all below it), with their defaults; None: without a default. Other keys stay as they are.
    Raises ConfigError with a mistake for each key that the console cannot change, or for the name.
    """
    if view.get(kind, name) is None:
        return _make_table(view, kind, name, values)
    return _TableChange(view, (kind, name), dict(_list_leaves(values)), known).make_files()


def switch_table(view: ConfView, kind: str, name: str, *, enabled: bool) -> Files:
    """Return the files with a table switched on or off. Raises ConfigError, and LookupError without such a table."""
    _check_exists(view, kind, name)
    return put_table(view, kind, name, {} if enabled else {"enabled": False}, {("enabled",): True})


def find_foreign_place(view: ConfView, kind: str, name: str) -> str | None:
    """Return where a person wrote a table, as "60-heap.toml:4"; None if the console wrote all of it."""
    holders = (one for one in view.documents if _get(one.table, (kind, name)) is not None)
    foreign = next((one for one in holders if not view.is_own(one)), None)
    return f"{foreign.name}:{foreign.find_line((kind, name))}" if foreign else None


def remove_table(view: ConfView, kind: str, name: str) -> Files:
    """Return the files without a table. Raises ConfigError if a person wrote it; LookupError without such a table."""
    _check_exists(view, kind, name)
    path = (kind, name)
    if place := find_foreign_place(view, kind, name):
        raise ConfigError([Mistake(key=format_path(path), reason=f"a person wrote it at {place}: remove it there")])
    holders = [one for one in view.documents if _get(one.table, path) is not None]
    return {view.name_in_target(one): _edit(one.text, path, {}, [()], one.name) for one in holders}


def _check_exists(view: ConfView, kind: str, name: str) -> None:
    if view.get(kind, name) is None:
        raise LookupError(f"there is no {kind} {name}")


def _make_table(view: ConfView, kind: str, name: str, values: Mapping[str, Any]) -> Files:
    path = format_path((kind, name))
    if not re.fullmatch(NAME, name) or kind not in FILE_PREFIXES:
        reason = "a name is made of a-z, 0-9, _ and -, and starts with a letter"
        raise ConfigError([Mistake(key=path, reason=reason)])
    file = name_file(kind, name)
    if not is_file_name(f"{file}.d/{DROP_IN}"):
        raise ConfigError([Mistake(key=path, reason=f"the name is too long: its file would be {len(file)} characters")])
    if name in view.merged.get_tables(kind):
        place = view.find_place(kind, name)
        raise ConfigError([Mistake(key=path, reason=f"this name stands at {place} already, and is no table")])
    if taken := view.find_files(file):
        raise ConfigError([Mistake(key=path, reason=f"the file {taken[0]} is there already: choose another name")])
    return {file: f"{MARK}\n{format_toml_table((kind, name), values)}"}


class _TableChange:
    """A change of a table that is there."""

    def __init__(self, view: ConfView, table: KeyPath, wanted: Leaves, known: Mapping[KeyPath, Any]) -> None:
        self._view, self._table, self._wanted, self._known = view, table, wanted, known
        self._now: Leaves = dict(_list_leaves(_get(view.merged.table, table)))
        self._mistakes: list[Mistake] = []

    def make_files(self) -> Files:
        """Return the files that differ. Raises ConfigError."""
        paths = {path for path in self._wanted if not _is_same(path, self._wanted, self._now)}
        paths |= {path for path in self._now if self._is_managed(path) and not self._is_as_wanted(path)}
        by_base: dict[str, set[KeyPath]] = {}
        for path in paths:
            if document := self._view.find_document((*self._table, *path)):
                by_base.setdefault(document.base, set()).add(path)
        for document in self._view.documents:  # a drop-in may say what has become the same without it
            if self._is_drop_in(document) and _get(document.table, self._table) is not None:
                by_base.setdefault(document.base, set())
        files = [self._change_base(base, paths) for base, paths in sorted(by_base.items())]
        if self._mistakes:
            raise ConfigError(sorted(self._mistakes, key=lambda one: one.key))
        return {name: text for name, text in files if text != self._view.read_own(name)}

    def _is_drop_in(self, document: Document) -> bool:
        """Return whether a file is the console's drop-in."""
        name = self._view.name_in_target(document)
        return self._view.is_own(document) and name == f"{document.base}.d/{DROP_IN}"

    def _is_managed(self, path: KeyPath) -> bool:
        return path in self._wanted or any(path[:length] in self._known for length in range(1, len(path) + 1))

    def _is_as_wanted(self, path: KeyPath) -> bool:
        """Return whether a key may stay: the wanted values say what becomes of it, or it has its default already."""
        return self._is_covered(path) or _is_same(path, self._now, {**self._known})

    def _is_covered(self, path: KeyPath) -> bool:
        """Return whether the wanted values say what becomes of a key: itself, a key above it or keys below it."""
        return any(path[: len(one)] == one or one[: len(path)] == path for one in self._wanted)

    def _change_base(self, base: str, paths: set[KeyPath]) -> tuple[str, str | None]:
        """Return the console's file that changes keys of a file and its drop-ins, and its text."""
        documents = [one for one in self._view.documents if one.base == base]
        is_own = self._view.is_own(documents[0])
        name = self._view.name_in_target(documents[0]) if is_own else f"{base}.d/{DROP_IN}"
        ours = [one for one in documents if self._view.is_own(one) and self._view.name_in_target(one) == name]
        if not ours and (others := self._view.find_files(name)):
            reason = f"the file {others[0]} is in the way of the console's own: remove it, or change the key there"
            self._mistakes += [self._make_mistake(path, reason) for path in paths]
            return name, self._view.read_own(name)
        turn = documents.index(ours[0]) if ours else sum(_comes_first(one) for one in documents)
        below, later = self._merge(documents[:turn]), documents[turn + len(ours) :]
        held = self._merge(ours)
        again = set() if is_own else {path for path in held if self._is_managed(path)}
        sets: Leaves = {}
        drops: list[KeyPath] = []
        for path in sorted(paths | again, key=format_path):
            if place := self._find_later(path, later):
                if path in paths:
                    reason = f"{place} comes later, and sets it: change it there"
                    self._mistakes.append(self._make_mistake(path, reason))
                continue
            wanted = self._find_wanted(path, below)
            if wanted is not None and not _is_same(path, {path: wanted}, below):
                sets[path] = wanted
            elif path in held:
                drops.append(path)
        if not (sets or drops):
            return name, self._view.read_own(name)
        return name, _edit(ours[0].text if ours else f"{MARK}\n", self._table, sets, drops, name)

    def _find_wanted(self, path: KeyPath, below: Leaves) -> Any:
        """Return the value of a key that the console's file should lead to; None: the key should be nowhere."""
        if path in self._wanted:
            return self._wanted[path]
        if path not in below or self._is_covered(path):
            return None
        if (default := self._known.get(path)) is None:
            place = self._view.find_place(*self._table, *path)
            reason = f"is set at {place}, and has no default to go back to: change it there, or give another value"
            self._mistakes.append(self._make_mistake(path, reason))
        return default

    def _find_later(self, path: KeyPath, later: list[Document]) -> str | None:
        """Return the place in a later file that sets the key; None without any."""
        for document in later:
            leaves = dict(_list_leaves(_get(document.table, self._table) or {}))
            if any(one[: len(path)] == path or path[: len(one)] == one for one in leaves):
                return f"{document.name}:{document.find_line((*self._table, *path))}"
        return None

    def _merge(self, documents: list[Document]) -> Leaves:
        found: Leaves = {}
        for document in documents:
            for path, value in _list_leaves(_get(document.table, self._table) or {}):
                found = {one: it for one, it in found.items() if path[: len(one)] != one and one[: len(path)] != path}
                found[path] = value
        return found

    def _make_mistake(self, path: KeyPath, reason: str) -> Mistake:
        return Mistake(key=format_path((*self._table, *path)), reason=reason)


def _comes_first(document: Document) -> bool:
    """Return whether a file is read before a drop-in of the console that is not there yet."""
    file = Path(document.name)
    return file.parent.name != f"{document.base}.d" or file.name < DROP_IN


def _list_leaves(table: Mapping[str, Any], path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping) and not is_reference(value):
            yield from _list_leaves(value, (*path, key))
        else:
            yield (*path, key), value


def _is_same(path: KeyPath, one: Leaves, other: Leaves) -> bool:
    return path in one and path in other and _normalize(one[path]) == _normalize(other[path])


def _normalize(value: object) -> str:
    """Return a text that is the same for the same value of TOML: `true` is not 1."""
    return json.dumps(value, sort_keys=True, default=str)


def _get(table: Mapping[str, Any], path: KeyPath) -> Any:
    found: Any = table
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _edit(text: str, table: KeyPath, sets: Leaves, drops: list[KeyPath], name: str) -> str | None:
    """Return the text of a file with keys of a table changed; None if it says nothing any more.

    Raises ConfigError if the file is written in a way that cannot be changed in place.
    """
    wanted = tomllib.loads(text)
    _apply(wanted, table, sets, drops, lambda value: value)
    if not wanted:
        return None
    try:
        edited = _edit_text(text, table, sets, drops)
        if _normalize(tomllib.loads(edited)) == _normalize(wanted):
            return edited
    except (TOMLKitError, tomllib.TOMLDecodeError, TypeError, AttributeError):  # tomlkit has bugs of its own
        pass
    reason = "the console cannot change it in place, as it is written: change it as text"
    raise ConfigError([Mistake(file=name, key=format_path(table), reason=reason)])


def _edit_text(text: str, table: KeyPath, sets: Leaves, drops: list[KeyPath]) -> str:
    if sets and _get(tomllib.loads(text), table) is None:
        values: dict[str, Any] = {}
        _apply(values, (), sets, [], lambda value: value)
        parted = text if text in ("", f"{MARK}\n") else text.rstrip("\n") + "\n\n"
        return parted + format_toml_table(table, values)
    document = tomlkit.parse(text)
    _apply(document, table, sets, drops, lambda value: tomlkit.value(format_toml(value)))
    edited: str = tomlkit.dumps(document)
    return edited


def _apply(
    tables: MutableMapping[Any, Any],
    table: KeyPath,
    sets: Leaves,
    drops: list[KeyPath],
    convert: Callable[[Any], Any],
) -> None:
    """Change keys of a table, in plain data or in what tomlkit makes of a text."""
    for path in drops:
        _drop(tables, (*table, *path))
    for path, value in sets.items():
        _put(tables, (*table, *path), value, convert)


def _put(table: MutableMapping[Any, Any], path: KeyPath, value: Any, convert: Callable[[Any], Any]) -> None:
    """Set a key. Tables on the way that are missing become inline tables."""
    for number, key in enumerate(path[:-1]):
        inner = table.get(key)
        if not isinstance(inner, MutableMapping) or is_reference(inner):
            for missing in reversed(path[number + 1 :]):
                value = {missing: value}
            table[key] = convert(value)
            return
        table = inner
    table[path[-1]] = convert(value)


def _drop(table: MutableMapping[Any, Any], path: KeyPath) -> None:
    """Remove a key, and the tables above it that are empty without it."""
    ways = [table]
    for key in path[:-1]:
        inner = ways[-1].get(key)
        if not isinstance(inner, MutableMapping):
            return
        ways.append(inner)
    for depth in range(len(path) - 1, -1, -1):
        ways[depth].pop(path[depth], None)
        if ways[depth]:
            return
