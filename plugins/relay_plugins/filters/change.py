"""Changes of an event's JSON at some paths. All other values stay as they came, byte for byte."""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from operator import call, is_
from typing import Any, Final

import msgspec
from msgspec import Raw
from msgspec.json import encode

from relay.api import Event
from relay_plugins.filters.field import Path

Change = Callable[[Raw], object]
"""Returns the replacement of a value: Raw JSON, or an object to encode, or REMOVED; the same object for no change."""
REMOVED: Final = object()
Parts = dict[str, Any]
"""The fields of an object: Raw values, and the fields of the objects within that were opened."""
MANY: Final = 8
"""Paths of which it is quicker to look for those that an object has."""
_NULL: Final = Raw(b"null")
_decode_object: Final = msgspec.json.Decoder(dict[str, Raw]).decode
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
            ways = usual if len(usual) < MANY else [(name, named[name]) for name in parts.keys() & named.keys()]
            return parts if _change_fields(parts, ways) else value
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


def open_object(body: bytes | Raw) -> Parts:
    """Return the fields of a JSON object. Raises msgspec.DecodeError, which is a ValueError."""
    return _decode_object(body)


def get(parts: Parts, path: Path) -> Raw | None:
    """Return the value at a path; None without any."""
    owner = _find_owner(parts, path)
    value = owner.get(path[-1]) if owner else None
    return Raw(encode(value)) if isinstance(value, dict) else value


def take(parts: Parts, path: Path) -> object:
    """Remove the value at a path and return it; None without any."""
    owner = _find_owner(parts, path)
    return owner.pop(path[-1], None) if owner else None


def put(parts: Parts, path: Path, value: object) -> bool:
    """Set the value at a path, and make the objects around it; return whether it was another before.

    Raises ValueError if a value around it is no object.
    """
    for step in path[:-1]:
        inner = parts.get(step)
        if inner is None or inner == _NULL:
            inner = parts[step] = {}
        elif isinstance(inner, Raw):
            try:
                inner = parts[step] = _decode_object(inner)
            except msgspec.ValidationError:
                raise ValueError(f"{'.'.join(path)} cannot be set: {step} is no object") from None
        parts = inner
    before = parts.get(path[-1])
    parts[path[-1]] = value
    return before is None or before != value


def _find_owner(parts: Parts, path: Path) -> Parts | None:
    """Return the fields of the object with the last step of a path; None if there is no such object."""
    for step in path[:-1]:
        inner = parts.get(step)
        if isinstance(inner, Raw):
            try:
                inner = parts[step] = _decode_object(inner)
            except msgspec.ValidationError:
                return None
        elif inner is None:
            return None
        parts = inner
    return parts


def make_guess(paths: Iterable[Path]) -> Callable[[bytes], bool]:
    """Make a function that says whether an event's bytes may have a field. It is quick, and never says no wrongly."""
    needles = [*dict.fromkeys(map(_find_needle, paths))]

    def may_have(body: bytes) -> bool:
        for needle in needles:
            if needle in body:
                return True
        return b"\\u" in body

    return may_have


def make_projection(paths: Sequence[Path]) -> Callable[[bytes], object] | None:
    """Make a function that reads nothing but the values at some paths, as an object to encode; None for paths with `*`,
    or with a name that JSON escapes.

    It raises msgspec.ValidationError for a body in which something else is in the way of a path, and
    msgspec.DecodeError for malformed JSON.
    """
    steps = {*chain(*paths)}
    is_plain = "*" not in steps and all(map(_find_needle, zip(steps)))
    return msgspec.json.Decoder(_make_struct(paths)).decode if is_plain else None


def _make_struct(paths: Iterable[Path]) -> Any:
    if () in paths:
        return Raw
    rest = {step: [path[1:] for path in paths if path[0] == step] for step, *_ in paths}
    names = {f"field_{number}": step for number, step in enumerate(rest)}
    fields = [(name, _make_struct(rest[step]) | msgspec.UnsetType, msgspec.UNSET) for name, step in names.items()]
    return msgspec.defstruct("Part", fields, rename=names, gc=False)


def change_event(event: Event, may_have: Callable[[bytes], bool], change: Change) -> Event:
    """Change an event that may have a field. Raises msgspec.DecodeError, which is a ValueError."""
    if not may_have(event.body):
        return event
    raw = Raw(event.body)
    new = change(raw)
    return event if new is raw else event.with_body(encode(new))


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
