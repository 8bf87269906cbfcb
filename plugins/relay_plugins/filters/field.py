"""Finds the values of a field by its dotted path. Pure."""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PlainSerializer

MOST_STEPS: Final = 100
"""Most parts of a path. No event needs more, and each part is a level of calls."""


def _parse_path(value: object) -> tuple[str, ...]:
    steps = tuple(value.split(".")) if isinstance(value, str) else ()
    if not all(steps) or not steps:
        raise ValueError(f'expected a dotted path such as "properties.email_address", got {value!r}')
    if len(steps) > MOST_STEPS:
        raise ValueError(f"a path has at most {MOST_STEPS} parts, this one has {len(steps):,}")
    return steps


FieldPath = Annotated[
    tuple[str, ...],
    BeforeValidator(_parse_path, json_schema_input_type=str),
    PlainSerializer(".".join, return_type=str, when_used="json"),
]
"""The path of a field: names joined by dots. `*` stands for any name, or for any element of a list."""


def find_values(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
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
