"""Options for the switches of stand-ins, made from what the switches say of themselves."""

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeVar, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from relay.sandbox import Switches

F = TypeVar("F", bound=Callable[..., Any])
RANGES: Final = {int: click.IntRange, float: click.FloatRange}


def switch_options(*models: type[Switches]) -> Callable[[F], F]:
    """Add an option for each switch of the models. A switch of several models is one option."""
    fields = {name: field for model in models for name, field in model.model_fields.items()}

    def add(command: F) -> F:
        for name, field in reversed(fields.items()):
            option = f"--{name.replace('_', '-')}"
            kind: dict[str, Any] = {"is_flag": True}
            if field.annotation is not bool:
                kind = {"type": _find_type(field), "show_default": True}
            elif field.default:
                option += f"/--no-{name.replace('_', '-')}"
            command = click.option(option, name, default=field.default, help=field.description, **kind)(command)
        return command

    return add


def pick_switches(model: type[Switches], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are switches of the model."""
    return {name: options[name] for name in model.model_fields if name in options}


def _find_type(field: FieldInfo) -> Any:
    if get_origin(field.annotation) is Literal:
        return click.Choice(get_args(field.annotation))
    low, high = (next((getattr(one, of) for one in field.metadata if hasattr(one, of)), None) for of in ("ge", "le"))
    for kind, made in RANGES.items():
        if field.annotation is kind:
            return made(low, high)
    raise TypeError(f"no option for a switch of the type {field.annotation}")
