"""Says in our words what pydantic found wrong with a table."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, get_args

from pydantic import BaseModel, BeforeValidator, ValidationError
from pydantic_core import ErrorDetails

from relay.api.settings import BYTES, SECONDS, SECRET_FORMS, Settings, parse_duration, parse_size, write_quantity
from relay.config.merge import Merged
from relay.config.mistake import Mistake, closest

REASONS: Final[Mapping[str, str]] = {
    "bool_type": "expected true or false",
    "dict_type": "expected a table",
    "extra_forbidden": "unknown key",
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
    "string_too_short": "must have at least {min_length} characters",
    "string_type": "expected a text in quotes",
    "too_long": "must have at most {max_length} entries",
    "too_short": "must have at least {min_length} entries",
    "tuple_type": "expected a list",
    "value_error": "{error}",
}
"""Our sentence for each pydantic error type; what is not listed keeps pydantic's own."""


def translate(
    error: ValidationError, model: type[Settings], path: Sequence[str | int], merged: Merged
) -> list[Mistake]:
    """Turn the errors of a table at `path`, checked as a `model`, into mistakes. They repeat no value of the file."""
    details = error.errors(include_url=False, include_input=False)
    return [_mistake(detail, model, path, merged) for detail in details]


def _mistake(detail: ErrorDetails, model: type[Settings], path: Sequence[str | int], merged: Merged) -> Mistake:
    *parents, last = detail["loc"] or (None,)
    owner = _model_at(model, parents)
    unknown = detail["type"] == "extra_forbidden"
    reason = _reason(detail, owner, last)
    suggestion = closest(last, owner.model_fields) if unknown and owner else None
    return merged.mistake((*path, *detail["loc"]), reason, suggestion, private=unknown or SECRET_FORMS in reason)


def _reason(detail: ErrorDetails, owner: type[BaseModel] | None, field: object) -> str:
    sentence = REASONS.get(detail["type"])
    if sentence is None:
        return detail["msg"]
    units = _units(owner, field)
    return sentence.format(**{name: _with_unit(value, units) for name, value in detail.get("ctx", {}).items()})


def _model_at(model: type[BaseModel], parents: Sequence[str | int]) -> type[BaseModel] | None:
    """The model of a nested table, as far as plain annotations tell."""
    for key in parents:
        known = model.model_fields.get(str(key))
        kinds = get_args(known.annotation) or (known.annotation,) if known else ()  # a model, or a model | None
        models = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not models:
            return None
        model = models[0]
    return model


def _units(owner: type[BaseModel] | None, field: object) -> Mapping[str, float]:
    known = owner.model_fields.get(str(field)) if owner else None
    parsers = [part.func for part in known.metadata if isinstance(part, BeforeValidator)] if known else []
    return SECONDS if parse_duration in parsers else BYTES if parse_size in parsers else {}


def _with_unit(value: Any, units: Mapping[str, float]) -> Any:
    """Write a limit as an admin would: with a unit, or without an empty fraction."""
    if not isinstance(value, int | float):
        return value
    return write_quantity(value, units) if units else value if value % 1 else int(value)
