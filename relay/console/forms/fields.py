"""Makes the fields of a form from the JSON Schema of a type. Pure.

A plugin may describe its settings in any way. A setting that no control fits is a field for TOML.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final, Literal
from urllib.parse import quote

import msgspec

from relay import api
from relay.config import KINDS
from relay.words import format_setting, format_toml_key

Schema = Mapping[str, Any]
Codec = Literal["text", "integer", "number", "boolean", "quantity", "any", "reference"]
"""How a text stands for a value. "reference": a text, or a reference to a secret in TOML."""
PREFIX: Final = "set"
"""What the names of inputs begin with: a setting may be named like an input that is none."""
Fold = Literal["", "type", "kind"]
"""Among which settings a form folds a setting away: those of its type, those of its whole kind; "": nowhere."""
FOLDS: Final[Sequence[Fold]] = ("", "type", "kind")
FIRST: Final = ("path", "tokens", "events", "filters", "from")
"""Settings of every source, filter or connector that nobody should have to look for."""
CODECS: Final[Mapping[str, Codec]] = {
    "string": "text",
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
}
MOST_CHOICES: Final = 100
QUOTED: Final = re.compile(r'`"([^`"]+)"`')
"""A text in a description, as a file has it."""
OTHERS: Final = 'Settings that have no field here, as in a file: a line each, such as name = "value".'


class Unset(Enum):
    """The value of what is not set."""

    NOT_SET = "not set"


NOT_SET: Final = Unset.NOT_SET


class FieldControl(Enum):
    """What a field is made of."""

    TEXT = "text"
    CHOICE = "choice"
    LINES = "lines"
    """One entry a line."""
    PAIRS = "pairs"
    """A line `key = value` for each entry."""
    SECRET = "secret"
    SECRETS = "secrets"
    """A list of secrets."""
    START = "start"
    """Where a new connector begins."""
    NAMES = "names"
    """Names of other tables in an order: a choice for each."""
    EVENTS = "events"
    """Ticks of event types."""
    TABLE = "table"
    TOML = "toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A setting in a form. `name`: of its input; those of its parts follow after a colon."""

    name: str
    path: tuple[str, ...]
    control: FieldControl = FieldControl.TOML
    codec: Codec = "text"
    doc: str = ""
    default: object = NOT_SET
    is_required: bool = False
    need: str = ""
    """When the table needs the setting, in words; "": nothing is wrong without it, as far as the schema says."""
    choices: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    takes_text: bool = False
    """Whether a secret may as well stand in the file itself."""
    inner: "tuple[Field, ...]" = ()
    """The settings of a table."""
    fold: Fold = ""
    """Where a form folds it away: few need the setting."""

    @property
    def label(self) -> str:
        """The name of the setting."""
        return self.path[-1] if self.path else "other settings"

    @property
    def title(self) -> str:
        """The name of the setting with the names of its tables."""
        return ".".join(self.path) or self.label

    @property
    def id(self) -> str:
        """The name as an HTML id."""
        return quote(self.name, safe="")

    @property
    def default_text(self) -> str:
        """The default as in TOML; "" without any."""
        return "" if self.default is NOT_SET else format_setting(self.default)

    @property
    def placeholder(self) -> str:
        """The default as somebody would enter it; "" without any."""
        match self.default:
            case bool() if self.codec == "boolean":
                return "yes" if self.default else "no"
            case str():
                return self.default
            case list():
                return "\n".join(one if isinstance(one, str) else format_setting(one) for one in self.default)
        return self.default_text

    @property
    def help(self) -> str:
        """What the setting does, for a form: texts have no quotes there."""
        return self.doc if self.control in (FieldControl.TABLE, FieldControl.TOML) else QUOTED.sub(r"`\1`", self.doc)

    @property
    def takes(self) -> str:
        """What the setting takes, in words."""
        value = " or ".join(self.choices) or WORDS[self.codec]
        if self.units:
            value = f"{value}: {', '.join(self.units)}"
        match self.control:
            case FieldControl.SECRET:
                return f"{'a text, or ' if self.takes_text else ''}a reference to a secret: credential, file or env"
            case FieldControl.SECRETS:
                return "a list: references to secrets: credential, file or env"
            case FieldControl.LINES | FieldControl.EVENTS | FieldControl.NAMES:
                return f"a list: {value}"
            case FieldControl.PAIRS:
                return f"names, each with a value: {value}"
            case FieldControl.TABLE | FieldControl.TOML:
                return ""
            case FieldControl.TEXT | FieldControl.CHOICE | FieldControl.START:
                return value


WORDS: Final[Mapping[Codec, str]] = {
    "text": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "quantity": "a number with a unit",
    "any": "a text, a number, true or false",
    "reference": "a text, or a reference to a secret",
}


def make_fields(kind: str, schema: Schema | None) -> tuple[Field, ...]:
    """Make the fields for a table of a type, the important ones first. `schema`: None if there is none.

    The last field is for settings that the schema does not name. `type` has no field.
    """
    found = [] if schema is None else [*list_fields(schema)]
    common = _list_common(kind)
    needs = _list_needs(schema or {}, found)
    deciding = frozenset(name for names in needs for name in names)
    fields = [replace(one, need=one.need or _describe_need(one, needs)) for one in found]
    fields = [replace(one, fold=_find_fold(one, kind, common, deciding)) for one in fields if one.path != ("type",)]
    if kind == "connector":
        special = {"from": FieldControl.START, "events": FieldControl.EVENTS, "filters": FieldControl.NAMES}
        fields = [replace(one, control=special.get(one.label, one.control)) for one in fields]
    fields.sort(
        key=lambda one: (FOLDS.index(one.fold), not one.need, one.label in FIRST and FIRST.index(one.label) + 1)
    )
    is_open = schema is None or schema.get("additionalProperties") is not False
    return (*fields, Field(name=PREFIX, path=(), doc=OTHERS, fold="" if is_open else "kind"))


def flatten(fields: Sequence[Field]) -> Iterator[Field]:
    """Yield fields, and the fields of tables behind their table."""
    for one in fields:
        yield one
        yield from flatten(one.inner)


def list_fields(schema: Schema) -> Iterator[Field]:
    """Yield a field for each setting of a schema, in its order."""
    yield from _list_fields(schema, _Place(_get_table(schema, "$defs")))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in a schema: the named parts, the path of keys, and the parts that it is in."""

    named: Schema
    path: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()

    def resolve(self, part: object) -> "tuple[Schema, _Place]":
        """Return a part of the schema with what it refers to; an empty one for what is no schema."""
        if not isinstance(part, dict):
            return {}, self
        name = part.get("$ref")
        if not isinstance(name, str):
            return part, self
        name = name.removeprefix("#/$defs/")
        if name in self.inside:  # a table that holds itself has no end
            return {key: value for key, value in part.items() if key != "$ref"}, self
        return {**_get_table(self.named, name), **part}, replace(self, inside=(*self.inside, name))


def _list_fields(table: Schema, place: _Place) -> Iterator[Field]:
    required = table.get("required")
    for key, part in _get_table(table, "properties").items():
        path = (*place.path, key)
        schema, inner = place.resolve(part)
        doc = schema.get("description")
        is_required = isinstance(required, list) and key in required
        field = Field(
            name=f"{PREFIX}.{format_toml_key(path)}",
            path=path,
            doc=doc if isinstance(doc, str) else "",
            default=schema.get("default", NOT_SET),
            is_required=is_required,
            need="required" if is_required else "",
        )
        yield _choose_control(field, schema, replace(inner, path=path))


def _choose_control(field: Field, schema: Schema, place: _Place) -> Field:
    """Return the field with the control that fits its values."""
    if (codec := _find_codec(schema, place)) is not None:
        choices = _list_choices(schema, codec)
        control = FieldControl.CHOICE if choices else FieldControl.TEXT
        return replace(field, control=control, codec=codec, choices=choices, units=_list_units(schema))
    one_of = [place.resolve(part)[0] for part in _list_alternatives(schema)]
    secrets = [part for part in one_of if "x-secret" in part]
    if secrets:
        texts = [part for part in one_of if part.get("type") == "string"]
        fits = len(secrets) + len(texts) == len(one_of)
        return replace(field, control=FieldControl.SECRET, takes_text=bool(texts)) if fits else field
    if inner := [*_list_fields(schema, place)]:
        return replace(field, control=FieldControl.TABLE, inner=tuple(inner), default=NOT_SET)
    # A list, or what stands for a list of one
    lists = [part for part in one_of if part.get("type") == "array"]
    if len(lists) == 1 and len(one_of) <= 2:
        entry, there = place.resolve(lists[0].get("items"))
        if "x-secret" in entry and len(one_of) == 1:
            return replace(field, control=FieldControl.SECRETS)
        if (codec := _find_codec(entry, there)) is not None:
            return replace(field, control=FieldControl.LINES, codec=codec, choices=_list_choices(entry, codec))
    elif len(one_of) == 1 and schema.get("type") == "object":
        return _choose_pairs(field, schema, place)
    return field


def _choose_pairs(field: Field, schema: Schema, place: _Place) -> Field:
    """Return the field of a table with free keys."""
    parts = [*_get_table(schema, "patternProperties").values()]
    if isinstance(schema.get("additionalProperties"), dict):
        parts.append(schema["additionalProperties"])
    if len(parts) != 1:
        return field
    value, there = place.resolve(parts[0])
    codec = _find_codec(value, there)
    if codec is not None:
        return replace(field, control=FieldControl.PAIRS, codec=codec, choices=_list_choices(value, codec))
    if any("x-secret" in there.resolve(part)[0] for part in _list_alternatives(value)):
        return replace(field, control=FieldControl.PAIRS, codec="reference")
    return field


def _find_codec(schema: Schema, place: _Place) -> Codec | None:
    """Return how a text stands for the values of a schema; None unless they are plain."""
    if "x-secret" in schema or "properties" in schema:
        return None
    if "x-units" in schema:
        return "quantity"
    if (fixed := _list_fixed(schema)) is not None:
        return "text" if all(isinstance(one, str) for one in fixed) else "any"
    parts = [place.resolve(part)[0] for part in _list_alternatives(schema)]
    kinds = {kind if isinstance(kind := part.get("type"), str) else "" for part in parts}
    if not kinds <= CODECS.keys() or any("x-secret" in part for part in parts):
        return None
    if len(kinds) == 1:
        return CODECS[next(iter(kinds))]
    return "number" if kinds == {"integer", "number"} else "any"


def _list_fixed(schema: Schema) -> list[Any] | None:
    """List the values that alone are right; None if others may be."""
    fixed = [schema["const"]] if "const" in schema else schema.get("enum")
    if not isinstance(fixed, list) or not all(isinstance(one, str | int | float) for one in fixed):
        return None
    return fixed or None


def _list_choices(schema: Schema, codec: Codec) -> tuple[str, ...]:
    if codec == "boolean":
        return "yes", "no"
    fixed = _list_fixed(schema) or ()
    texts = [one if codec == "text" else msgspec.json.encode(one).decode() for one in fixed]
    return tuple(texts) if all(texts) and len(texts) <= MOST_CHOICES else ()


def _list_alternatives(schema: Schema) -> list[Any]:
    """List the schemas one of which fits; a schema without alternatives is its only one."""
    for word in ("anyOf", "oneOf"):
        if isinstance(schema.get(word), list) and schema[word]:
            return list(schema[word])
    return [dict(schema)]


def _list_units(schema: Schema) -> tuple[str, ...]:
    units = schema.get("x-units")
    return tuple(map(str, units)) if isinstance(units, list) else ()


def _get_table(schema: Schema, key: str) -> Schema:
    found = schema.get(key)
    return found if isinstance(found, dict) else {}


def _list_common(kind: str) -> frozenset[str]:
    """List the settings that relay gives every type of a kind."""
    base = KINDS[kind][1]
    models = [one for one in vars(api).values() if isinstance(one, type) and issubclass(one, base)]
    return frozenset(field.alias or name for one in models for name, field in one.model_fields.items())


def _list_needs(schema: Schema, fields: Sequence[Field]) -> list[Mapping[str, bool]]:
    """Return what is wrong with a table without settings: each time the settings, and whether they have a default."""
    found = schema.get("x-needs")
    has_default = {one.label: one.default not in (NOT_SET, None, "", [], {}) for one in fields}
    needs = found if isinstance(found, list) else []
    return [{name: has_default[name] for name in names if name in has_default} for names in needs]


def _describe_need(field: Field, needs: Sequence[Mapping[str, bool]]) -> str:
    """Return when a table needs a setting that the schema does not require.

    One of the settings without a default is needed, while those with a default stay as they are.
    """
    for names in needs:
        missing = [name for name, has_default in names.items() if not has_default]
        others = [name for name in names if name not in missing]
        if field.label in missing:
            what = f"required: {_list_choice(missing)}" if len(missing) > 1 else "required"
            return f"{what}, unless you change {_list_choice(others)}" if others else what
    return ""


def _list_choice(names: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _find_fold(field: Field, kind: str, common: frozenset[str], deciding: frozenset[str]) -> Fold:
    """Return where a form folds a setting away.

    `common`: the settings of every type of the kind. `deciding`: those on which depends what is needed. Of a connector,
    a first launch needs secrets and what relay cannot guess, such as an address. Other settings of its type have a
    default, and are folded away.
    """
    if field.need or field.label in FIRST or field.label in deciding:
        return ""
    if field.label in common:
        return "kind"
    is_plain = field.control in (FieldControl.TEXT, FieldControl.CHOICE)
    is_unknown = is_plain and field.default in (NOT_SET, None)
    is_secret = field.control in (FieldControl.SECRET, FieldControl.SECRETS)
    return "" if kind != "connector" or is_unknown or is_secret else "type"
