"""Makes a JSON Schema of one file of conf.d for editors, with the types of the installed plugins.

It covers single tables. Only `relay check` knows the relations between tables and between limits.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from relay.api import Connector, Plugin, Settings
from relay.catalogue import NAMES, TYPES
from relay.config.checks.tables import NAME
from relay.config.descriptions import read_descriptions, type_description
from relay.config.model import OWN_TABLES
from relay.config.plugins.registry import KINDS, Registry
from relay.config.validation_errors import find_needs
from relay.guests import contained, name_error

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
EVENTS: Final = {
    "entry": {
        "description": "A group, a channel, a type, or a glob over types; a leading ! excludes.",
        "anyOf": [{"enum": [*NAMES, *(f"!{name}" for name in NAMES)]}, {"type": "string"}],
    },
    "event type": {"anyOf": [{"enum": [*TYPES]}, {"type": "string"}]},
}
"""Completions for editors. A type may be newer than the catalogue."""


def make_schema(registry: Registry, tell: Callable[[str], object] = lambda _: None) -> dict[str, Any]:
    """Make the schema. A type whose settings cannot be described accepts anything, and `tell` is called."""
    from relay.config.route_tests.settings import (
        RouteTestSettings,  # late: a daemon without tests does without the module
    )

    parts: dict[str, dict[str, Any]] = {}
    for kind in KINDS:
        for name, plugin in registry.get_types(kind).items():
            try:
                with contained(until_ctrl_c=True):
                    parts[f"{kind}.{name}"] = _typed(kind, name, plugin)
            except Exception as error:
                parts[f"{kind}.{name}"] = {"title": f"{kind}.{name}", "properties": {"type": {"const": name}}}
                owner = registry.find_provider(kind, name)
                tell(f"settings of the {kind} type {name} of {owner} cannot be described: {name_error(error)}")
    parts |= {name: _make_table(name, model) for name, model in OWN_TABLES.items()}
    parts["erasure"]["properties"]["on"]["items"] = _link("event type")
    parts["test"] = _make_table("test", RouteTestSettings)
    inner: dict[str, Any] = {}
    for table in parts.values():
        inner |= table.pop("$defs", {})
    unfinished = {kind: _make_unfinished(kind, registry.list_names(kind), parts) for kind in KINDS}
    tables = {kind: _named([*(f"{kind}.{name}" for name in registry.list_names(kind)), kind]) for kind in KINDS}
    tables["test"] = _named(["test"])
    return {
        "$schema": DIALECT,
        "title": "relay: a file of conf.d",
        "type": "object",
        "properties": {name: _link(name) for name in OWN_TABLES} | tables,
        "additionalProperties": False,
        "$defs": parts | unfinished | inner | EVENTS,
    }


def make_type_schema(kind: str, name: str, plugin: type[Plugin]) -> dict[str, Any]:
    """Make the schema of one table of this type, which needs no other part. Raises what the plugin raises.

    A quantity has its units in `x-units`, and `x-secret` marks a reference to a secret. `x-needs`: a table without
    settings is a mistake for lack of these, each a list of settings that the mistake names.
    """
    table = _typed(kind, name, plugin)
    table["x-needs"] = find_needs({"type": name}, plugin.Settings)
    table["$defs"] |= {part: {"type": "string"} for part in EVENTS}
    return table


def describe_settings(kind: str, name: str, plugin: type[Plugin]) -> tuple[dict[str, Any] | None, str]:
    """Return the schema of `make_type_schema`, and ""; or None, and why there is no schema."""
    try:
        with contained(until_ctrl_c=True):
            return make_type_schema(kind, name, plugin), ""
    except Exception as error:
        return None, f"the settings cannot be described: {name_error(error)}"


class _Written(GenerateJsonSchema):
    """Settings as they are written: with descriptions and defaults with units, without redundant titles."""

    def model_schema(self, schema: core_schema.ModelSchema) -> dict[str, Any]:
        written = super().model_schema(schema)
        for name, text in read_descriptions(schema["cls"]).items():
            written["properties"][schema["cls"].model_fields[name].alias or name].setdefault("description", text)
        return written

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> dict[str, Any]:
        written = super().default_schema(schema)
        how: Any = schema["schema"].get("serialization", {})
        if "default" in schema and how.get("type") == "function-plain" and not how.get("info_arg"):
            written["default"] = how["function"](schema["default"])
        return {key: part for key, part in written.items() if (key, part) != ("default", None)}

    def nullable_schema(self, schema: core_schema.NullableSchema) -> dict[str, Any]:
        return self.generate_inner(schema["schema"])  # TOML has no null: what is not set is left out

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> dict[str, Any]:
        return {}  # a plugin's own type: anything may be right

    def emit_warning(self, kind: Any, detail: str) -> None:
        pass  # a default that cannot be written is left out


def _make_table(name: str, model: type[Settings]) -> dict[str, Any]:
    """Return the schema of one table. Its parts are under `$defs`, each beginning with the table's name."""
    template = f"#/$defs/{name}.{{model}}"
    made = model.model_json_schema(ref_template=template, schema_generator=_Written)
    inner = made.pop("$defs", {})
    return made | {"title": name, "$defs": {f"{name}.{model}": part for model, part in inner.items()}}


def _typed(kind: str, name: str, plugin: type[Plugin]) -> dict[str, Any]:
    table = _make_table(f"{kind}.{name}", plugin.Settings)
    properties = table["properties"]
    properties["type"] = {"const": name, "description": type_description(plugin)}
    if kind == "connector":
        properties["events"]["items"] = _link("entry")
        for setting in plugin.per_type_settings if issubclass(plugin, Connector) else ():
            properties[plugin.Settings.model_fields[setting].alias or setting]["propertyNames"] = _link("event type")
    return table


def _make_unfinished(kind: str, names: list[str], parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a table whose type is in another file: only its keys are known."""
    keys = {key for name in names for key in parts[f"{kind}.{name}"]["properties"]}
    return {"title": f"{kind} without type", "propertyNames": {"enum": sorted(keys - {"type"})}}


def _named(choices: list[str]) -> dict[str, Any]:
    return {
        "type": "object",
        "propertyNames": {"pattern": f"^{NAME}$"},
        "additionalProperties": {"type": "object", "oneOf": [*map(_link, choices)]},
    }


def _link(name: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/{name}"}
