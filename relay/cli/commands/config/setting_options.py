"""Options of a command made from a settings model: each setting an option, written as it would be in conf.d."""

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, get_args, get_origin

import click
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from relay.api import AlertSettings, ConnectorSettings, FilterSettings, Secret, Settings, SourceSettings
from relay.api.internal import WAYS, annotate
from relay.cli.options import complete_entry
from relay.config import read_descriptions, summarize
from relay.guests import contained

PLUGIN_SETTINGS: Final = (SourceSettings, FilterSettings, ConnectorSettings, AlertSettings)
RESERVED: Final = frozenset({"name", "conf", "disabled", "make_token"})
"""Names of options that say where the table goes; a setting of such a name is --setting-NAME."""


def make_options(model: type[Settings]) -> list[click.Option]:
    """Make an option for each setting, and --disabled where the table can be switched off."""
    about = read_descriptions(model)
    options = [_make_option(name, field, about.get(name, "")) for name, field in _list_settings(model)]
    if "enabled" in model.model_fields:
        options.append(click.Option(["--disabled"], is_flag=True, help="Write it switched off."))
    return options


def read_settings(model: type[Settings], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings in the given options as plain data for TOML, under their names in conf.d."""
    return {
        field.alias or name: _read_value(field, given[name]) for name, field in _list_settings(model) if given.get(name)
    }


def _list_settings(model: type[Settings]) -> Iterator[tuple[str, FieldInfo]]:
    """List the settings of a type: required settings first, then its own before the common settings."""
    own = set(model.model_fields).difference(*(base.model_fields for base in PLUGIN_SETTINGS))
    fields = [(name, field) for name, field in model.model_fields.items() if name not in ("type", "enabled")]
    return iter(sorted(fields, key=lambda one: (not one[1].is_required(), one[0] not in own)))


def _make_option(name: str, field: FieldInfo, description: str) -> click.Option:
    word = (field.alias or name).replace("_", "-")
    flag = f"--setting-{word}" if name in RESERVED else f"--{word}"
    about = f"Required. {summarize(description)}" if field.is_required() else summarize(description)
    if _holds_secrets(field) and str in get_args(field.annotation):
        about = f"{about} A text, or where it is: credential:NAME, file:/PATH or env:NAME."
        return click.Option([flag, name], metavar="VALUE|WHERE", multiple=True, type=_TextOrReference(), help=about)
    if _holds_secrets(field):
        flag, about = f"{flag.removesuffix('s')}-from", f"{about} credential:NAME, file:/PATH or env:NAME."
        return click.Option([flag, name], metavar="WHERE", multiple=True, type=_Reference(), help=about)
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
        parts = ", ".join(f"{inner} = ..." for inner in field.annotation.model_fields)
        about = f"{about} In TOML: {{ {parts} }}."
    complete = complete_entry if name == "events" else None
    return click.Option([flag, name], metavar="VALUE", multiple=True, help=about, shell_complete=complete)


def _holds_secrets(field: FieldInfo) -> bool:
    """Return whether the setting is a secret or a list of secrets."""
    kinds = (field.annotation, *get_args(field.annotation))
    return any(isinstance(kind, type) and issubclass(kind, Secret) for kind in kinds)


class _Reference(click.ParamType[dict[str, str]]):
    """Reads where a secret is, as credential:NAME, file:/PATH or env:NAME; never the secret."""

    name = "reference"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, str]:
        way, _, name = value.partition(":")
        if way not in WAYS or not name:
            # the value may be the secret itself: it is not repeated
            self.fail("expected credential:NAME, file:/PATH or env:NAME, never the secret itself", param, ctx)
        return {way: name}


class _TextOrReference(click.ParamType[str | dict[str, str]]):
    """Reads a text, or where it is, as credential:NAME, file:/PATH or env:NAME."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str | dict[str, str]:
        way, _, name = value.partition(":")
        return {way: name} if way in WAYS and name else value


def _read_value(field: FieldInfo, given: Sequence[Any]) -> Any:
    """Return the first reading that the setting accepts: the text itself, its TOML value, or a list of all texts."""
    if _holds_secrets(field):
        return [*given] if get_origin(field.annotation) is tuple else given[-1]
    candidates: list[Any] = []
    if len(given) == 1:
        candidates.append(given[0])
        with suppress(tomllib.TOMLDecodeError):
            candidates.append(tomllib.loads(f"value = {given[0]}")["value"])
    candidates.append([part.strip() for text in given for part in text.split(",")])
    with suppress(Exception), contained(until_ctrl_c=True):  # a plugin's own type; the check of the table tells
        setting = TypeAdapter[Any](annotate(field.annotation, field.metadata))
        for one in candidates:
            with suppress(ValidationError):
                setting.validate_json(json.dumps(one, default=str), strict=True)
                return one
    return candidates[0]
