"""The paths of fields, and what they lead to in a decoded event. Pure."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, pairwise
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, PlainSerializer

from relay.api import Contradiction, Event, find_personal_fields

MOST_STEPS: Final = 100
"""Most parts of a path. No event needs more, and each part is a level of calls."""
FIXED: Final = ("id", "time", "event_type")
"""Fields that tell events apart. A filter that reshapes events does not change them."""
PERSONAL: Final = ("pii",)
"""Stands for all personal fields."""
Path = tuple[str, ...]


def parse_path(value: object) -> Path:
    """Read a path as an admin writes it. Raises ValueError."""
    steps = tuple(value.split(".")) if isinstance(value, str) else ()
    if not all(steps) or not steps:
        hint = " (write the whole path in quotes)" if isinstance(value, dict) else f", got {value!r}"
        raise ValueError(f'expected a dotted path such as "properties.email_address"{hint}')
    if len(steps) > MOST_STEPS:
        raise ValueError(f"a path has at most {MOST_STEPS} parts, this one has {len(steps):,}")
    return steps


def _check_free(path: Path) -> Path:
    if len(path) == 1 and path[0] in (*FIXED, "*"):
        raise ValueError(f"{', '.join(FIXED[:-1])} and {FIXED[-1]} stay as they are: choose other fields")
    return path


def _check_single(path: Path) -> Path:
    if "*" in path:
        raise ValueError("a path that leads to one field has no *")
    return path


def _list_paths(value: object) -> object:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


FieldPath = Annotated[
    Path,
    BeforeValidator(parse_path, json_schema_input_type=str),
    PlainSerializer(".".join, return_type=str, when_used="json"),
]
"""The path of a field: names joined by dots. `*` stands for any name, or for any element of a list."""
FreePath = Annotated[FieldPath, AfterValidator(_check_free)]
"""The path of a field that a filter may change."""
SinglePath = Annotated[FieldPath, AfterValidator(_check_single)]
"""A path without `*`."""
FreeSinglePath = Annotated[SinglePath, AfterValidator(_check_free)]
FieldPaths = Annotated[tuple[FieldPath, ...], BeforeValidator(_list_paths, json_schema_input_type=str | list[str])]
"""A path, or a list of paths."""


def _expand(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    expanded = [find_personal_fields() if path == PERSONAL else (path,) for path in paths]
    return tuple(dict.fromkeys(chain(*expanded)))


def _shorten(paths: tuple[Path, ...]) -> list[str]:
    personal = find_personal_fields()
    rest = [path for path in paths if path not in personal] if {*paths} >= {*personal} else paths
    return [".".join(path) for path in ((PERSONAL, *rest) if len(rest) < len(paths) else paths)]


_listed, _expanded = BeforeValidator(_list_paths, json_schema_input_type=str | list[str]), AfterValidator(_expand)
_shortened = PlainSerializer(_shorten, when_used="json")
FieldsToRemove = Annotated[tuple[FieldPath, ...], _listed, _expanded, _shortened]
"""A path or a list of paths. `pii` stands for the personal fields."""
FieldsToChange = Annotated[tuple[FreePath, ...], _listed, _expanded, _shortened]
"""The same, of fields that a filter may change."""


def find_values(value: Any, path: Path) -> Iterator[Any]:
    """Yield all values to which a path leads."""
    if not path:
        yield value
        return
    step, rest = path[0], path[1:]
    found: Iterable[Any] = ()
    if step == "*" and isinstance(value, dict | list):
        found = value.values() if isinstance(value, dict) else value
    elif isinstance(value, dict) and step in value:
        found = (value[step],)
    for inner in found:
        yield from find_values(inner, rest)


def make_getter(path: Path) -> Callable[[Event], Any]:
    """Make a function that returns the value of a field without `*` in an event; None without any."""
    if path == ("event_type",):
        return lambda event: event.type
    first, *rest = path

    def get(event: Event) -> Any:
        value = event.data.get(first)
        for step in rest:
            if not isinstance(value, dict):
                return None
            value = value.get(step)
        return value

    return get


def describe_overlap(about: str, paths: Iterable[Path]) -> Iterator[Contradiction]:
    """Yield a contradiction about these settings if one path leads into another."""
    for outer, inner in pairwise(sorted(paths)):
        if inner[: len(outer)] == outer:
            yield about, f"{'.'.join(inner)} is a part of {'.'.join(outer)}: choose one of them"
