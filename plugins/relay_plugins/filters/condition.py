"""The filter types `keep` and `drop`: a condition on a field."""

import fnmatch
import re
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import Field

from relay.api import Contradiction, Event, Filter, FilterSettings
from relay_plugins.filters.field import FieldPath, find_values

Scalar = str | bool | int | float


class FieldCondition(FilterSettings):
    """A field and a test. A path with `*` passes the test if any of its values does."""

    field: FieldPath
    """The field to test: a dotted path such as `properties.country`, or `event_type`. `*` stands for any name or list
    element.

    A path with `*` passes the test if any of its values does. A path has at most 100 parts.
    """
    equals: Scalar | None = None
    """The value that the field must have. Give exactly one of `equals`, `in`, `glob` and `exists`."""
    in_: tuple[Scalar, ...] | None = Field(None, alias="in", min_length=1)
    """A list of values, one of which the field must have."""
    glob: str | None = None
    """A pattern that the field must match, such as `"*@example.com"`. Upper and lower case differ."""
    exists: bool | None = None
    """`true`: the field must be there, and not null. `false`: it must not."""

    def contradictions(self) -> Iterator[Contradiction]:
        """Yield the tests unless exactly one is given."""
        given = [test for test in (self.equals, self.in_, self.glob, self.exists) if test is not None]
        if len(given) != 1:
            yield "equals in glob exists", f"give exactly one of equals, in, glob or exists, not {len(given)}"

    def compile(self) -> Callable[[Event], bool]:
        """Return a function that tests an event."""
        values = self._find_values
        if self.exists is not None:
            return lambda event: any(value is not None for value in values(event)) is self.exists
        if self.glob is not None:
            match = re.compile(fnmatch.translate(self.glob)).match
            return lambda event: any(isinstance(value, str) and match(value) is not None for value in values(event))
        wanted = {_type_value(value) for value in ((self.equals,) if self.in_ is None else self.in_)}
        return lambda event: any(_type_value(value) in wanted for value in values(event))

    def _find_values(self, event: Event) -> Iterator[Any]:
        return iter((event.type,)) if self.field == ("event_type",) else find_values(event.data, self.field)


def _type_value(value: Any) -> tuple[bool, Any]:
    """Return a value to compare by. In JSON true is not 1; objects and lists equal nothing here."""
    return isinstance(value, bool), None if isinstance(value, dict | list) else value


class Keep(Filter, type="keep"):
    """Keeps the events for which a condition holds, and drops the others."""

    Settings = FieldCondition

    def __init__(self, name: str, settings: FieldCondition) -> None:
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
