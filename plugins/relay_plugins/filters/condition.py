"""The filter types `keep` and `drop`: a condition on an event, compiled once into plain functions."""

import fnmatch
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from operator import call, gt, lt
from typing import Annotated, Any, Final, cast

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import SchemaError, SchemaValidator, core_schema

from relay.api import Contradiction, Event, Filter, FilterSettings, Settings, read_time
from relay_plugins.filters.field import FieldPaths, Path, describe_typos, find_values, make_getter

Scalar = str | bool | int | float
Holds = Callable[[Event], bool]
"""Says whether a condition holds for an event."""
Passes = Callable[[Any], bool]
"""Says whether a value passes a test. None, for a field that is not there, passes no test but `exists = false`."""
TESTS: Final = ("equals", "in", "glob", "regex", "less", "more", "exists")
GROUPS: Final = ("all", "any", "not")
NUMBERS: Final = (int, float)
MOST_LEVELS: Final = 20
"""Levels of conditions in conditions."""


def _compile_regex(pattern: str) -> Passes:
    """Raises SchemaError. The expressions take linear time, whatever text a sender writes; those of `re` do not."""
    return SchemaValidator(core_schema.str_schema(pattern=pattern, strict=True)).isinstance_python


def _check_regex(pattern: str) -> str:
    try:
        _compile_regex(pattern)
    except SchemaError as error:
        reason = re.split("error: ", str(error), flags=re.IGNORECASE)[-1]
        raise ValueError(f"not a regular expression: {reason.strip()}") from None
    return pattern


def _check_limit(value: object) -> object:
    if type(value) not in NUMBERS and not (isinstance(value, str) and read_time(value) is not None):
        raise ValueError('expected a number, or a time such as "2026-11-01T00:00Z"')
    return value


def _count(given: Sequence[str]) -> str:
    return f"there are {len(given)}" if given else "there is none"


Regex = Annotated[str, AfterValidator(_check_regex)]
Limit = Annotated[int | float | str, BeforeValidator(_check_limit, json_schema_input_type=int | float | str)]


class EventCondition(Settings):
    """A test of a field, or a group of conditions."""

    field: FieldPaths = Field((), min_length=1)
    """The field to test: a dotted path such as `properties.country`, or `event_type`. `*` stands for any name or list
    element. Give exactly one of `field`, `all`, `any` and `not`.

    It may be a list of paths. A list, or a path with `*`, passes a test if any of its values does. A path has at most
    100 parts.
    """
    equals: Scalar | None = None
    """The value that the field must have. Give exactly one of `equals`, `in`, `glob`, `regex`, `less`, `more` and
    `exists`."""
    in_: tuple[Scalar, ...] | None = Field(None, alias="in", min_length=1)
    """A list of values, one of which the field must have."""
    glob: str | None = None
    """A pattern that the field must match, such as `"*@example.com"`. Upper and lower case differ."""
    regex: Regex | None = None
    """A regular expression that must match somewhere in the text of the field, such as `"^Spring [0-9]+"`.

    `(?i)` in front makes upper and lower case the same. The expressions are those of
    [Rust](https://docs.rs/regex/latest/regex/#syntax): no look-around, no backreferences, always fast.
    """
    less: Limit | None = None
    """A number, or a time such as `"2026-11-01T00:00Z"`: the field must be less, or earlier.

    A field is compared with a number if it is a number. A field is compared with a time if it is Unix seconds,
    milliseconds or ISO 8601. Other fields do not pass.
    """
    more: Limit | None = None
    """A number or a time, as in `less`: the field must be more, or later."""
    exists: bool | None = None
    """`true`: the field must be there, and not null. `false`: it must not; of several fields, none."""
    all: tuple["EventCondition", ...] | None = Field(None, min_length=1)
    """A list of conditions, all of which must hold. Each is a table such as
    `{ field = "properties.price", more = 100 }`."""
    any: tuple["EventCondition", ...] | None = Field(None, min_length=1)
    """A list of conditions, one of which must hold."""
    not_: "EventCondition | None" = Field(None, alias="not")
    """A condition that must not hold."""

    def contradictions(self) -> Iterator[Contradiction]:
        """Yield a condition of several kinds or of none, a field without exactly one test, and too many levels."""
        kinds = [name for name in ("field", *GROUPS) if self._get(name)]
        tests = [name for name in TESTS if self._get(name) is not None]
        if len(kinds) != 1:
            yield f"field {' '.join(GROUPS)}", f"give exactly one of field, all, any or not; {_count(kinds)}"
        elif kinds != ["field"] and tests:
            yield " ".join(tests), f"{tests[0]} is a test of a field: put both into a condition in {kinds[0]}"
        elif kinds == ["field"] and len(tests) != 1:
            yield " ".join(TESTS), f"give exactly one of {', '.join(TESTS[:-1])} or {TESTS[-1]}; {_count(tests)}"
        elif self._count_levels() > MOST_LEVELS:
            yield " ".join(GROUPS), f"conditions stand in conditions, in at most {MOST_LEVELS} levels"

    def warnings(self) -> Iterator[Contradiction]:
        """Yield paths that are probably typos, also those of conditions within."""
        yield from describe_typos("field", self.field)
        for name in GROUPS:
            inner = self._get(name) or ()
            for one in inner if isinstance(inner, tuple) else (inner,):
                yield from ((name, reason) for _, reason in one.warnings())

    def compile(self) -> Holds:
        """Return a function that tells whether the condition holds for an event."""
        if self.not_:
            return _make_not(self.not_.compile())
        if self.all:
            return _make_all([one.compile() for one in self.all])
        if self.any:
            return _make_any([one.compile() for one in self.any])
        passes = self._compile_test()
        holds = _make_any([_compile_field(path, passes) for path in self.field])
        return _make_not(holds) if self.exists is False else holds

    def _compile_test(self) -> Passes:
        """Return a function that tests a value. With `exists`, whether there is a value."""
        if self.exists is not None:
            return lambda value: value is not None
        if self.glob is not None:
            match = re.compile(fnmatch.translate(self.glob)).match
            return lambda value: isinstance(value, str) and match(value) is not None
        if self.regex is not None:
            return _compile_regex(self.regex)
        if self.less is not None:
            return _compile_comparison(lt, self.less)
        if self.more is not None:
            return _compile_comparison(gt, self.more)
        wanted = {_type_value(value) for value in ((self.equals,) if self.in_ is None else self.in_)}
        return lambda value: _type_value(value) in wanted

    def _get(self, name: str) -> object:
        return getattr(self, {"in": "in_", "not": "not_"}.get(name, name))

    def _count_levels(self) -> int:
        inner = (*(self.all or ()), *(self.any or ()), *((self.not_,) if self.not_ else ()))
        return 1 + max((one._count_levels() for one in inner), default=0)  # noqa: SLF001


class ConditionSettings(EventCondition, FilterSettings):
    """The condition of a filter."""


class Keep(Filter, type="keep"):
    """Keeps the events for which a condition holds, and drops the others."""

    Settings = ConditionSettings

    def __init__(self, name: str, settings: ConditionSettings) -> None:
        super().__init__(name, settings)
        self._holds = settings.compile()

    def apply(self, event: Event) -> Event | None:
        """Return the event if the condition holds; else None."""
        return event if self._holds(event) else None


class Drop(Keep, type="drop"):
    """Drops the events for which a condition holds, and keeps the others."""

    def apply(self, event: Event) -> Event | None:
        """Return None if the condition holds; else the event."""
        return None if self._holds(event) else event


def _compile_field(path: Path, passes: Passes) -> Holds:
    if "*" in path:
        return lambda event: any(map(passes, find_values(event.data, path)))
    get = make_getter(path)
    return lambda event: passes(get(event))


def _compile_comparison(compare: Callable[[float, float], bool], limit: float | str) -> Passes:
    if not isinstance(limit, str):
        return lambda value: type(value) in NUMBERS and compare(value, limit)
    moment = cast("float", read_time(limit))
    return lambda value: (time := read_time(value)) is not None and compare(time, moment)


def _type_value(value: Any) -> tuple[bool, Any]:
    """Return a value to compare by. In JSON true is not 1; objects and lists equal nothing here."""
    return isinstance(value, bool), None if isinstance(value, dict | list) else value


def _make_not(holds: Holds) -> Holds:
    return lambda event: not holds(event)


def _make_all(conditions: Sequence[Holds]) -> Holds:
    return conditions[0] if len(conditions) == 1 else lambda event: all(map(call, conditions, repeat(event)))


def _make_any(conditions: Sequence[Holds]) -> Holds:
    return conditions[0] if len(conditions) == 1 else lambda event: any(map(call, conditions, repeat(event)))
