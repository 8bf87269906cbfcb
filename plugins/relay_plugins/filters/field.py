"""Where a field of an event is. Pure."""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PlainSerializer

MOST_STEPS: Final = 100
"""Of a path. No event needs more, and each is a level of calls."""


def _steps(value: object) -> tuple[str, ...]:
    steps = tuple(value.split(".")) if isinstance(value, str) else ()
    if not all(steps) or not steps:
        raise ValueError(f'expected a dotted path such as "properties.email_address", got {value!r}')
    if len(steps) > MOST_STEPS:
        raise ValueError(f"a path has at most {MOST_STEPS} parts, this one has {len(steps):,}")
    return steps


FieldPath = Annotated[
    tuple[str, ...],
    BeforeValidator(_steps, json_schema_input_type=str),
    PlainSerializer(".".join, return_type=str, when_used="json"),
]
"""Where a field is: names joined by dots; `*` stands for any name, or for any element of a list."""


def _keys(value: Any, step: str) -> Iterable[Any]:
    """The keys of an object or the numbers of a list that a step of a path leads to."""
    if isinstance(value, dict):
        return list(value) if step == "*" else [step] if step in value else []
    return range(len(value)) if step == "*" and isinstance(value, list) else []


def values_at(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """All values that a path leads to."""
    if not path:
        yield value
        return
    for key in _keys(value, path[0]):
        yield from values_at(value[key], path[1:])
