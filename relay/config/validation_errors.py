"""Translates pydantic's errors in a table into relay's words."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import lru_cache
from itertools import chain
from types import UnionType
from typing import Any, Final, TypeGuard, TypeVar, Union, get_args, get_origin

from msgspec.structs import replace
from pydantic import BaseModel, BeforeValidator, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from relay.api import Settings
from relay.api.internal import (
    BYTES,
    CONTRADICTION,
    SECONDS,
    SECRET_FORMS,
    find_closest,
    parse_duration,
    parse_size,
    write_quantity,
)
from relay.config.merge import Merged
from relay.config.mistake import Mistake, format_path
from relay.config.redaction import Redaction
from relay.guests import contained, read_text

Place = tuple[str | int, ...]
KEY: Final = "[key]"
"""Marks a key that is wrong itself in pydantic's places."""
S = TypeVar("S", bound=Settings)

REASONS: Final[Mapping[str, str]] = {
    "bool_type": "expected true or false",
    "dict_type": "expected a table",
    "extra_forbidden": "unknown key",
    "finite_number": "must be a finite number",
    "float_type": "expected a number",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int_type": "expected a whole number",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "list_type": "expected a list",
    "literal_error": "expected {expected}",
    "missing": "is missing",
    "model_attributes_type": "expected a table",
    "model_type": "expected a table",
    "path_type": "expected a path in quotes",
    "string_pattern_mismatch": "expected {pattern}",
    "string_too_short": "must have {min_length} or more characters",
    "string_type": "expected a text in quotes",
    "too_long": "must have at most {max_length} entries",
    "too_short": "must have {min_length} or more entries",
    "tuple_type": "expected a list",
    "value_error": "{error}",
}
"""relay's sentence for each pydantic error type. Others keep pydantic's own."""

FORMS: Final[Mapping[str, str]] = {
    r"^\d+$": "digits alone",
    r"^[A-Za-z0-9_-]+$": "letters, digits, _ and - alone",
}
"""Usual patterns in words."""


def validate(table: object, model: type[S]) -> S:
    """Check a table. Raises ValidationError."""
    # as JSON, because that is strict ("4" is no number) and still has lists for tuples and texts for paths
    return model.model_validate_json(json.dumps(table, default=str), strict=True)


def translate(
    error: ValidationError, table: object, model: type[Settings], path: Sequence[str | int], merged: Merged
) -> list[Mistake]:
    """Convert the errors of a table at `path`, checked as a `model`, into mistakes.

    They repeat no value of the file and no secret, whatever a plugin's own check says.
    """
    details = error.errors(include_url=False, include_input=False)
    places = {one["loc"][:depth] for one in details for depth in range(len(one["loc"]))}
    # pydantic counts the entries that are right: what is wrong with the others is said
    details = [one for one in details if one["type"] != "too_short" or one["loc"] not in places]
    more = _find_contradictions(table, model, details)
    clean = Redaction(table if isinstance(table, dict) else {}).clean
    found = [_make_mistake(detail, model, path, merged) for detail in (*details, *more)]
    return [replace(one, reason=clean(read_text(one.reason))) for one in found]


def find_needs(table: Mapping[str, Any], model: type[Settings]) -> list[list[str]]:
    """Return the settings that each contradiction of a table names. A check that cannot do with this table has none."""
    try:
        with contained(until_ctrl_c=True):
            validate(table, model)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        both = [*found, *_find_contradictions(table, model, found)]
        return [one["ctx"]["about"] for one in both if one["type"] == CONTRADICTION]
    except Exception:
        return []
    return []


def _find_contradictions(table: object, model: type[Settings], found: Sequence[ErrorDetails]) -> Iterator[ErrorDetails]:
    """Find contradictions that pydantic does not reach because of other wrong settings."""
    wrong = {_find_setting(model, detail["loc"]) for detail in found}
    while isinstance(table, dict) and () not in wrong:
        required = [(name, field.alias or name) for name, field in model.model_fields.items() if field.is_required()]
        lenient = _make_optional(model, frozenset(name for name, alias in required if (alias,) in wrong))
        rest = _leave_out(table, wrong)
        try:
            with contained(until_ctrl_c=True):
                validate(rest, lenient)
        except ValidationError as error:
            fresh = error.errors(include_url=False, include_input=False)
        except Exception:  # a check that cannot do without what is missing: it is asked again when that is there
            return
        else:
            return
        faulty = {place[:depth] for place in wrong for depth in range(1, len(place) + 1)}  # with the tables around them
        for one in fresh:
            if one["type"] == CONTRADICTION and faulty.isdisjoint((*one["loc"], name) for name in one["ctx"]["about"]):
                yield one
        if not (more := {_find_setting(model, one["loc"]) for one in fresh} - wrong):
            return
        wrong |= more


def _find_setting(model: type[Settings], place: Place) -> Place:
    """Return the setting of an error: not its entry of a list, but the setting inside a nested table."""
    depth = 1
    while depth < len(place) and isinstance(place[depth], str) and _find_model(model, place[:depth]):
        depth += 1
    return place[:depth]


def _leave_out(table: Mapping[str, Any], places: Iterable[Place]) -> dict[str, Any]:
    rest = deepcopy(dict(table))
    for *parents, last in places:
        inner: Any = rest
        for key in parents:
            inner = inner.get(key, {}) if isinstance(inner, dict) else {}
        if isinstance(inner, dict):
            inner.pop(last, None)
    return rest


@lru_cache(maxsize=64)
def _make_optional(model: type[S], names: frozenset[str]) -> type[S]:
    """Return the model with these settings optional. It is cached: making it takes longer than checking many tables."""
    fields: dict[str, Any] = dict.fromkeys(names, (Any, None))
    return create_model(model.__name__, __base__=model, **fields) if fields else model


def _make_mistake(detail: ErrorDetails, model: type[Settings], path: Sequence[str | int], merged: Merged) -> Mistake:
    loc = tuple(part for part in detail["loc"] if part != KEY)
    if detail["type"] == CONTRADICTION:
        # of the table, at the line of the first written setting that it is about
        table = (*path, *loc)
        places = [(*table, name) for name in detail["ctx"]["about"]]
        place = next((one for one in places if one in merged.origins), table)
        found = merged.make_mistake(place, detail["ctx"]["reason"])
        return replace(found, key=format_path(table), about=format_path(places[0]) if places else "")
    *parents, last = loc or (None,)
    owner = _find_model(model, parents)
    unknown = detail["type"] == "extra_forbidden"
    reason = _explain(detail, owner.model_fields.get(str(last)) if owner else None)
    known = [field.alias or name for name, field in owner.model_fields.items()] if owner else []
    suggestion = find_closest(last, known) if unknown else None
    return merged.make_mistake((*path, *loc), reason, suggestion, private=unknown or SECRET_FORMS in reason)


def _explain(detail: ErrorDetails, field: FieldInfo | None) -> str:
    """Explain pydantic's error about a setting, with limits in the units of the setting."""
    sentence = REASONS.get(detail["type"])
    if sentence is None:
        return detail["msg"]
    parsers = [part.func for part in field.metadata if isinstance(part, BeforeValidator)] if field else []
    units = SECONDS if parse_duration in parsers else BYTES if parse_size in parsers else {}
    limits = {
        name: _describe_pattern(value) if name == "pattern" else _format_limit(value, units)
        for name, value in detail.get("ctx", {}).items()
    }
    return sentence.format(**limits)


def _describe_pattern(pattern: str) -> str:
    """Describe a regular expression: `^(a|b:.+)$` is "a" or "b:..."."""
    if listed := re.fullmatch(r"\^\(([\w.+:|-]+)\)\$", pattern):
        *others, last = (f'"{one.replace(".+", "...")}"' for one in listed[1].split("|"))
        return f"{', '.join(others)} or {last}" if others else last
    return FORMS.get(pattern, f"what matches the regular expression {pattern}")


def _find_model(model: type[BaseModel], parents: Sequence[str | int]) -> type[BaseModel] | None:
    """Return the model of a nested table, as far as plain annotations tell."""
    steps = iter(parents)
    for key in steps:
        known = model.model_fields.get(str(key))
        kinds = [known.annotation] if known else []
        if get_origin(kinds and kinds[0]) in (Union, UnionType):
            kinds = [*get_args(kinds[0])]  # a model | None, or several models | None
        several = [kind for kind in kinds if get_origin(kind) in (dict, tuple)]
        models = [kind for kind in (*kinds, *chain(*map(get_args, several))) if _is_model(kind)]
        if not models:
            return None
        model = models[0]
        if several:
            next(steps, None)  # the name of one of several tables, or its number
    return model


def _is_model(kind: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _format_limit(value: Any, units: Mapping[str, float]) -> Any:
    """Format a limit as an admin would write it: with a unit, or without an empty fraction."""
    if not isinstance(value, int | float):
        return value
    return write_quantity(value, units) if units else value if value % 1 else int(value)
