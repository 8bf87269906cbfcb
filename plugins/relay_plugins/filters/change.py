"""Changes of an event's JSON at some paths. All other values stay as they came, byte for byte."""

from collections.abc import Callable, Iterable, Sequence
from operator import call, is_
from typing import Any, Final

import msgspec
from msgspec import Raw
from msgspec.json import encode

from relay_plugins.filters.field import Path

Change = Callable[[Raw], object]
"""Returns the replacement of a value: Raw JSON, or an object to encode, or REMOVED; the same object for no change."""
REMOVED: Final = object()
_decode_parts: Final = msgspec.json.Decoder(dict[str, Raw] | list[Raw]).decode


class _Name(str):
    """A name that equals no other name: an object may have the same name twice."""

    __slots__ = ()
    __hash__ = object.__hash__
    __eq__ = object.__eq__
    __ne__ = object.__ne__


_decode_all_parts: Final = msgspec.json.Decoder(dict[_Name, Raw], dec_hook=call).decode


def make_change(paths: Iterable[Path], change: Change) -> Change:
    """Make a change of a whole value from a change of the values at some paths. If an object has a name twice, a path
    leads to both values.

    The change raises msgspec.DecodeError, which is a ValueError, for malformed JSON.
    """
    if () in paths:
        return change
    named, each = _split(paths, lambda following: make_change(following, change))
    usual = [*named.items()]

    def change_value(value: Raw) -> object:
        try:
            parts = _decode_parts(value)
        except msgspec.ValidationError:  # neither an object nor a list: no path leads further
            return value
        if isinstance(parts, list):
            if each is None:
                return value
            new = [*map(each, parts)]
            return value if all(map(is_, new, parts)) else [part for part in new if part is not REMOVED]
        is_whole = _is_whole(value, parts)
        if is_whole and not each:
            return parts if _change_fields(parts, usual) else value
        fields: dict[Any, Any] = parts if is_whole else _decode_all_parts(value)
        ways = [(name, way) for name in fields if (way := named.get(str(name), each))]
        return fields if _change_fields(fields, ways) else value

    return change_value


def make_selection(paths: Iterable[Path]) -> Change:
    """Make a change that removes everything but the values at some paths, and the objects and lists around them.

    It raises as those of `make_change` do.
    """
    if () in paths:
        return lambda value: value
    named, each = _split(paths, make_selection)
    usual = [*named.items()]

    def select(value: Raw) -> object:
        try:
            parts = _decode_parts(value)
        except msgspec.ValidationError:
            return REMOVED
        if isinstance(parts, list):
            if each is None:
                return REMOVED
            kept = [part for part in map(each, parts) if part is not REMOVED]
            return value if len(kept) == len(parts) and all(map(is_, kept, parts)) else kept
        is_whole = _is_whole(value, parts)
        fields: dict[Any, Any] = parts if is_whole else _decode_all_parts(value)
        ways: Iterable[tuple[Any, Change]] = usual
        if each or not is_whole:
            ways = [(name, way) for name in fields if (way := named.get(str(name), each))]
        chosen = {
            name: new
            for name, way in ways
            if (part := fields.get(name)) is not None and (new := way(part)) is not REMOVED
        }
        is_same = len(chosen) == len(fields) and all(fields[name] is new for name, new in chosen.items())
        return value if is_same else chosen

    return select


def make_guess(paths: Iterable[Path]) -> Callable[[bytes], bool]:
    """Make a function that says whether an event's bytes may have a field. It is quick, and never says no wrongly."""
    needles = [*dict.fromkeys(map(_find_needle, paths))]

    def may_have(body: bytes) -> bool:
        for needle in needles:
            if needle in body:
                return True
        return b"\\u" in body

    return may_have


def _split(paths: Iterable[Path], make: Callable[[Sequence[Path]], Change]) -> tuple[dict[str, Change], Change | None]:
    """Make the change behind each first step of the paths, and the change behind `*` or None."""
    rest = {step: [path[1:] for path in paths if path[0] in (step, "*")] for step, *_ in paths}
    named = {step: make(following) for step, following in rest.items()}
    return named, named.pop("*", None)


def _is_whole(value: Raw, parts: dict[str, Raw]) -> bool:
    """Return whether the parts are all of a value. A value with blanks may have a name twice, of which `parts` has only
    the last value."""
    return len(encode(parts)) == memoryview(value).nbytes


def _change_fields(fields: dict[Any, Any], ways: Iterable[tuple[str, Change]]) -> bool:
    """Change the fields with these names in place; return whether any has changed."""
    is_changed = False
    for name, change in ways:
        old = fields.get(name)
        if old is None or (new := change(old)) is old:
            continue
        is_changed, fields[name] = True, new
        if new is REMOVED:
            del fields[name]
    return is_changed


def _find_needle(path: Path) -> bytes:
    """Return bytes that every event with this field has, unless the event writes names with \\u escapes."""
    name = next((step for step in reversed(path) if step != "*"), "")
    has_only_one_spelling = name and name.isprintable() and not any(character in name for character in '"\\/')
    return f'"{name}"'.encode() if has_only_one_spelling else b""
