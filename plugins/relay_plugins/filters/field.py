"""The paths of fields, and what they lead to in a decoded event. Pure."""

from collections.abc import Callable, Iterable, Iterator
from difflib import SequenceMatcher
from itertools import chain, pairwise
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, PlainSerializer

from relay.api import Contradiction, Event, find_known_paths, find_personal_fields

MOST_STEPS: Final = 100
"""Most parts of a path. No event needs more, and each part is a level of calls."""
FIXED: Final = ("id", "time", "event_type")
"""Fields that tell events apart. A filter that reshapes events does not change them."""
PERSONAL: Final = ("pii",)
"""Stands for all personal fields."""
NEARLY_PERSONAL: Final = ("pii", "pi", "ppi", "piis")
"""What somebody writes who means `pii`, in lower case."""
QUOTES: Final = ('"', "'")
ALIKE: Final = 0.88
"""How alike a name and its typo are at least, from 0 to 1."""
MOST_DIFFERENT: Final = 3
"""Most characters of a name and its typo that the other one lacks."""
DIGITS: Final = str.maketrans("", "", "0123456789")
Path = tuple[str, ...]


def parse_path(value: object) -> Path:
    """Read a path as an admin writes it. Raises ValueError."""
    steps = tuple(value.split(".")) if isinstance(value, str) else ()
    if not all(steps) or not steps:
        hint = " (write the whole path in quotes)" if isinstance(value, dict) else f", got {value!r}"
        raise ValueError(f'expected a dotted path such as "properties.email_address"{hint}')
    if any(
        len(one) > 1 and one.startswith(mark) and one.endswith(mark)
        for one in (".".join(steps), *steps)
        for mark in QUOTES
    ):
        bare = ".".join(step.strip("".join(QUOTES)) for step in steps)
        raise ValueError(f"write the path without quotes: {bare}. The path here has quotes of its own: {value}")
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


def describe_typos(about: str, paths: Iterable[Path]) -> Iterator[Contradiction]:
    """Yield a warning about this setting for each path that is probably a typo of a field of Braze.

    Sources of other types and other filters make fields of their own. So a path that is like no known path is none.
    """
    for path in dict.fromkeys(paths):
        if meant := _find_meant(path):
            yield about, f"no event of Braze has the field {'.'.join(path)}: did you mean {'.'.join(meant)}?"


def describe_typos_to_remove(about: str, paths: Iterable[Path]) -> Iterator[Contradiction]:
    """Yield a warning for each path of `FieldsToRemove` that is probably a typo, of `pii` or of a field."""
    for path in paths:
        if ".".join(path).lower() in NEARLY_PERSONAL and path != PERSONAL:
            yield about, f"{path[0]} is a field of this name: did you mean pii, which stands for all personal fields?"
    yield from describe_typos(about, paths)


def _find_meant(path: Path) -> Path | None:
    """Return the known path of which a path is perhaps a typo; None without any."""
    known = find_known_paths()
    if path in known or "*" in path:
        return None
    return next((one for one in sorted(known) if len(one) == len(path) and all(map(_is_alike, path, one))), None)


def _is_alike(step: str, known: str) -> bool:
    """Return whether a name is a known one, or a typo of it. A plural or another number is no typo."""
    if step == known:
        return True
    word = step.lower()
    if word == f"{known}s" or word.translate(DIGITS) == known.translate(DIGITS) != known:
        return False
    found = SequenceMatcher(None, word, known, autojunk=False)
    different = len(word) + len(known) - 2 * sum(block.size for block in found.get_matching_blocks())
    return different <= MOST_DIFFERENT and found.ratio() >= ALIKE
