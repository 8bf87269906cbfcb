"""The filter types `only`, `rename` and `set`: which fields an event has, under which names, with which values."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from typing import Annotated, Final

from msgspec import Raw, ValidationError
from msgspec.json import encode
from pydantic import BeforeValidator, Field

from relay.api import Contradiction, Event, Filter, FilterSettings
from relay_plugins.filters.change import (
    Change,
    Json,
    Parts,
    find_place,
    get,
    make_event_change,
    make_projection,
    make_selection,
    open_object,
    put,
    take,
)
from relay_plugins.filters.field import FieldPath, FreeSinglePath, Path, SinglePath, describe_overlap, describe_typos

BLANKS: Final = (b" ", b"\n", b"\r", b"\t")
"""What may stand between the parts of JSON."""
Scalar = str | bool | int | float


def _check_constant(value: object) -> object:
    if isinstance(value, Scalar):
        return value
    hint = "; write the whole path of a field in quotes" if isinstance(value, dict) else ""
    raise ValueError(f"expected a text, a number, true or false{hint}")


Constant = Annotated[Scalar, BeforeValidator(_check_constant, json_schema_input_type=Scalar)]


class Only(Filter, type="only"):
    """Keeps the fields of a list, and removes all others. The id, time and type of an event always stay."""

    class Settings(FilterSettings):
        """The fields that stay."""

        fields: tuple[FieldPath, ...] = Field(min_length=1)
        """The fields that stay: dotted paths such as `"properties.campaign_name"`. `*` stands for any name or list
        element. A field that is an object stays with all that is in it. If an object has a name twice, the last value
        stays.

        A path has at most 100 parts.
        """

        def warnings(self) -> Iterator[Contradiction]:
            """Yield paths that are probably typos."""
            yield from describe_typos("fields", self.fields)

    settings: Settings

    def __init__(self, name: str, settings: Settings) -> None:
        super().__init__(name, settings)

        @cache  # as many as there are names of fields in the settings of sources
        def make(id_field: str, time_field: str) -> tuple[Change, Callable[[bytes], object] | None]:
            paths = [(id_field,), (time_field,), ("event_type",), *settings.fields]
            return make_selection(paths), make_projection(paths)

        self._make = make

    def apply(self, event: Event) -> Event:
        """Return the event with these fields. Raises ValueError if the event cannot be decoded."""
        select, project = self._make(event.kind.id_field, event.kind.time_field)
        body = event.body
        if project:
            with suppress(ValidationError):  # such as a list in place of an object
                new = encode(project(body))
                if len(new) < _measure_without_blanks(body):  # more than blanks is removed
                    return event.with_body(new, encoded=True)
                if len(new) == len(body):
                    return event
        new = select(body)
        return event if new is body else event.with_body(bytes(new), encoded=True)


def _measure_without_blanks(body: bytes) -> int:
    """Return the number of bytes that are no blanks. To remove blanks takes a fifth of the time of counting them."""
    for blank in BLANKS:
        body = body.replace(blank, b"")
    return len(body)


class Rename(Filter, type="rename"):
    """Gives fields other names, or moves fields to other objects."""

    class Settings(FilterSettings):
        """The fields, and their new paths."""

        fields: dict[FreeSinglePath, FreeSinglePath] = Field(min_length=1)
        """The new path of each field: `{ "properties.campaign_name" = "properties.campaign" }`.

        An event without the field stays as it is. A field that has the new path already is replaced. All fields move
        at the same time: two fields can change places.
        """

        def contradictions(self) -> Iterator[Contradiction]:
            """Yield fields that get the same path, and paths that lead into each other."""
            new = [*self.fields.values()]
            if twice := [path for path in new if new.count(path) > 1]:
                yield "fields", f"several fields get the path {'.'.join(twice[0])}"
            yield from describe_overlap("fields", {*self.fields, *new})

        def warnings(self) -> Iterator[Contradiction]:
            """Yield old paths that are probably typos."""
            yield from describe_typos("fields", self.fields)

    settings: Settings

    def __init__(self, name: str, settings: Settings) -> None:
        super().__init__(name, settings)
        self._moves = [(find_place(old), find_place(new)) for old, new in settings.fields.items()]
        self._change = make_event_change(settings.fields, self._move)

    def apply(self, event: Event) -> Event:
        """Return the event with the fields at their new paths. Raises ValueError if something else is in the way."""
        return self._change(event)

    def _move(self, body: Json) -> Json:
        parts = open_object(body)
        moved = []
        for old, new in self._moves:
            value = take(parts, old)
            if value is not None:
                moved.append((new, value))
        for new, value in moved:
            put(parts, new, value)
        return encode(parts) if moved else body


class Set(Filter, type="set"):
    """Sets fields to a constant, or to the value of another field."""

    class Settings(FilterSettings):
        """The fields, and their values."""

        values: dict[FreeSinglePath, Constant] = Field(default={})
        """The constant of each field: `{ "properties.region" = "eu", "properties.version" = 2 }`."""
        copies: dict[FreeSinglePath, SinglePath] = Field(default={})
        """The field whose value each field gets: `{ "properties.customer" = "user.external_user_id" }`. An event
        without that field stays as it is. All values are those before the filter."""

        def contradictions(self) -> Iterator[Contradiction]:
            """Yield a filter that sets nothing, fields that are set twice, and paths that lead into each other."""
            if not self.values and not self.copies:
                yield "values copies", "give values or copies"
            for path in self.values.keys() & self.copies.keys():
                yield "values copies", f"{'.'.join(path)} is set twice"
            yield from describe_overlap("values copies", {*self.values, *self.copies})

        def warnings(self) -> Iterator[Contradiction]:
            """Yield paths of values to copy that are probably typos."""
            yield from describe_typos("copies", self.copies.values())

    settings: Settings

    def __init__(self, name: str, settings: Settings) -> None:
        super().__init__(name, settings)
        self._constants = [(find_place(path), Raw(encode(value))) for path, value in settings.values.items()]
        self._copies = [(find_place(path), _make_reader(source)) for path, source in settings.copies.items()]

    def apply(self, event: Event) -> Event:
        """Return the event with the fields set. Raises ValueError if something else is in the way."""
        parts, is_changed = open_object(event.body), False
        copies = [(place, value) for place, read in self._copies if (value := read(event, parts)) is not None]
        for place, value in (*copies, *self._constants):
            is_changed = put(parts, place, value) or is_changed
        return event.with_body(encode(parts), encoded=True) if is_changed else event


def _make_reader(path: Path) -> Callable[[Event, Parts], Raw | None]:
    """Make a function that returns the value of a field; None without any."""
    if path == ("event_type",):
        return lambda event, parts: Raw(encode(event.type))
    place = find_place(path)
    return lambda event, parts: get(parts, place)
