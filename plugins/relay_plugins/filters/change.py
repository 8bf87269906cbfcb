"""Changes of an event's JSON at some paths. All other values stay as they came, byte for byte."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from operator import call, is_
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw
from msgspec.json import encode

from relay.api import Event
from relay_plugins.filters.field import Path

Json = bytes | Raw
"""The JSON of a value: a whole event, or a value within one."""
Change = Callable[[Any], Json]
"""Returns the JSON that replaces the JSON of a value, or REMOVED; the same object for no change."""
ValueChange = Callable[[Raw], Raw]
"""The same, for the value at a path."""
REMOVED: Final = Raw(b"")
Parts = dict[str, Any]
"""The fields of an object: Raw values, and the fields of the objects within that were opened."""
Place = tuple[Path, str]
"""The steps to an object, and the name of a value in it."""
MANY: Final = 8
"""So many names that it is quicker to look for those that an object has."""
_NULL: Final = Raw(b"null")
open_object: Final = msgspec.json.Decoder(dict[str, Raw]).decode
"""Returns the fields of a JSON object. Raises msgspec.DecodeError, which is a ValueError."""
_decode_parts: Final = msgspec.json.Decoder(dict[str, Raw] | list[Raw]).decode


class _Name(str):
    """A name that equals no other name: an object may have the same name twice."""

    __slots__ = ()
    __hash__ = object.__hash__
    __eq__ = object.__eq__
    __ne__ = object.__ne__


_decode_all_parts: Final = msgspec.json.Decoder(dict[_Name, Raw], dec_hook=call).decode


class _Fields(NamedTuple):
    """What paths without `*` lead to in an object."""

    values: Mapping[str, int]
    """The names of the values to change, each with the bytes that go with a removed value: the name, `:` and `,`."""
    many: frozenset[str] | None
    """The same names, if it is quicker to look for those that an object has."""
    objects: Sequence[tuple[str, "_Fields"]]
    """The objects to look into."""


def make_change(paths: Iterable[Path], change: ValueChange) -> Change:
    """Make a change of a whole value from a change of the values at some paths. If an object has a name twice, a path
    leads to both values.

    The change raises msgspec.DecodeError, which is a ValueError, for malformed JSON.
    """
    paths = [*paths]
    change_thoroughly = make_thorough_change(paths, change)
    if "*" in chain(*paths):
        return change_thoroughly
    fields = _list_fields(paths)

    def change_value(value: Json) -> Json:
        try:
            parts = open_object(value)
        except msgspec.ValidationError:  # no object: no path leads further
            return value
        growth = _change_parts(parts, fields, change)
        if growth is None:
            return value
        changed = encode(parts)
        if len(changed) != len(value) + growth:  # blanks, or a name that comes twice: `parts` has only the last value
            return change_thoroughly(value)
        return value if not growth and changed == value else changed

    return change_value


def _list_fields(paths: Sequence[Path]) -> _Fields:
    values = {path[0]: len(encode(path[0])) + len(":,") for path in paths if len(path) == 1}
    rest = {path[0]: [more[1:] for more in paths if more[0] == path[0]] for path in paths if path[0] not in values}
    many = frozenset(values) if len(values) >= MANY else None
    return _Fields(values, many, [(name, _list_fields(inner)) for name, inner in rest.items()])


def _change_parts(parts: Parts, fields: _Fields, change: ValueChange) -> int | None:
    """Change the values in an object; return the bytes by which it grows, or None if no path begins in it."""
    values, many, objects = fields
    is_found, growth = False, 0
    for name, inner in objects:
        value = parts.get(name)
        if value is None:
            continue
        is_found = True
        try:
            opened = open_object(value)
        except msgspec.ValidationError:
            continue
        more = _change_parts(opened, inner, change)
        if more is not None:
            parts[name] = opened
            growth += more
    for name in many.intersection(parts) if many else values:
        value = parts.get(name)
        if value is None:
            continue
        is_found = True
        new = change(value)
        if new is REMOVED:
            del parts[name]
            growth -= len(value) + values[name] - (not parts)  # there is no comma behind the last field
        elif new is not value:
            parts[name] = new
            growth += len(new) - len(value)
    return growth if is_found else None


def make_thorough_change(paths: Iterable[Path], change: Change) -> Change:
    """Make the change of `make_change`, for any value: with a name that comes twice, paths with `*`, blanks."""
    if () in paths:
        return change
    named, each = _split(paths, lambda following: make_thorough_change(following, change))

    def change_value(value: Json) -> Json:
        try:
            parts = _decode_parts(value)
        except msgspec.ValidationError:  # neither an object nor a list: no path leads further
            return value
        return _change_each(value, parts, named, each)

    return change_value


def _change_each(
    value: Json, parts: dict[str, Raw] | list[Raw], named: Mapping[str, Change], each: Change | None
) -> Json:
    """Change the values in an object or list, whatever it has: a name that comes twice, paths with `*`, blanks."""
    if isinstance(parts, list):
        made = parts if each is None else [*map(each, parts)]
        return value if all(map(is_, made, parts)) else encode([Raw(part) for part in made if part is not REMOVED])
    fields: dict[Any, Raw] = {**parts} if _is_whole(value, parts) else _decode_all_parts(value)
    is_changed = False
    for name, old in [*fields.items()]:
        way = named.get(str(name), each)
        if way is None or (new := way(old)) is old:
            continue
        is_changed = True
        if new is REMOVED:
            del fields[name]
        else:
            fields[name] = Raw(new)
    return encode(fields) if is_changed else value


def make_selection(paths: Iterable[Path]) -> Change:
    """Make a change that removes everything but the values at some paths, and the objects and lists around them. If an
    object has a name twice, the last value stays: readers of JSON take that one.

    It raises as those of `make_change` do.
    """
    if () in paths:
        return lambda value: value
    named, each = _split(paths, make_selection)
    usual = [*named.items()]

    def select(value: Json) -> Json:
        try:
            parts = _decode_parts(value)
        except msgspec.ValidationError:
            return REMOVED
        if isinstance(parts, list):
            if each is None:
                return REMOVED
            return _change_each(value, parts, {}, each)
        ways = usual if each is None else [(name, named.get(name, each)) for name in parts]
        found = ((name, way(part)) for name, way in ways if (part := parts.get(name)) is not None)
        chosen = {name: new for name, new in found if new is not REMOVED}
        is_all = len(chosen) == len(parts) and all(parts[name] is new for name, new in chosen.items())
        if is_all and (_is_whole(value, parts) or len(_decode_all_parts(value)) == len(parts)):
            return value
        return encode({name: Raw(new) for name, new in chosen.items()})

    return select


def find_place(path: Path) -> Place:
    """Return where the value at a path is."""
    return path[:-1], path[-1]


def get(parts: Parts, place: Place) -> Raw | None:
    """Return the value at a place; None without any."""
    way, name = place
    owner = _open_owner(parts, way) if way else parts
    value = None if owner is None else owner.get(name)
    return Raw(encode(value)) if type(value) is dict else value


def take(parts: Parts, place: Place) -> object:
    """Remove the value at a place and return it; None without any."""
    way, name = place
    owner = _open_owner(parts, way) if way else parts
    return None if owner is None else owner.pop(name, None)


def put(parts: Parts, place: Place, value: object) -> bool:
    """Set the value at a place, and make the objects around it; return whether it was another before.

    Raises ValueError if a value around it is no object.
    """
    way, name = place
    for step in way:
        inner = parts.get(step)
        if type(inner) is not dict:
            try:
                inner = parts[step] = {} if inner is None or inner == _NULL else open_object(inner)
            except msgspec.ValidationError:
                raise ValueError(f"{'.'.join((*way, name))} cannot be set: {step} is no object") from None
        parts = inner
    before, parts[name] = parts.get(name), value
    return before is None or before != value


def _open_owner(parts: Parts, way: Path) -> Parts | None:
    """Return the fields of the object to which these steps lead; None if there is no such object."""
    for step in way:
        inner = parts.get(step)
        if type(inner) is not dict:
            if inner is None:
                return None
            try:
                inner = parts[step] = open_object(inner)
            except msgspec.ValidationError:
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


def make_event_change(paths: Iterable[Path], change: Change) -> Callable[[Event], Event]:
    """Make a function that changes the JSON of an event that may have one of the fields. It raises as `change` does.

    To look for the fields takes half as long as to decode. The function looks only if the event before had none.
    """
    may_have, is_usual = make_guess(paths), True

    def change_event(event: Event) -> Event:
        nonlocal is_usual
        body = event.body
        if not is_usual and not may_have(body):
            return event
        try:
            new = change(body)
        except (ValueError, RecursionError):
            if may_have(body):
                raise
            return event
        is_usual = new is not body
        return event.with_body(bytes(new), encoded=True) if is_usual else event

    return change_event


def _split(paths: Iterable[Path], make: Callable[[Sequence[Path]], Change]) -> tuple[dict[str, Change], Change | None]:
    """Make the change behind each first step of the paths, and the change behind `*` or None."""
    rest = {step: [path[1:] for path in paths if path[0] in (step, "*")] for step, *_ in paths}
    named = {step: make(following) for step, following in rest.items()}
    return named, named.pop("*", None)


def _is_whole(value: Json, parts: dict[str, Raw]) -> bool:
    """Return whether the parts are all of a value. A value with blanks may have a name twice, of which `parts` has only
    the last value."""
    return len(encode(parts)) == len(value)


def _find_needle(path: Path) -> bytes:
    """Return bytes that every event with this field has, unless the event writes names with \\u escapes."""
    name = next((step for step in reversed(path) if step != "*"), "")
    has_only_one_spelling = name and name.isprintable() and not any(character in name for character in '"\\/')
    return f'"{name}"'.encode() if has_only_one_spelling else b""
