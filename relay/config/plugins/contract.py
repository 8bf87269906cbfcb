"""Checks a plugin's class and its objects, so that later readers can rely on them.

That covers its name, the attributes that relay reads, and its settings. A setting named like one of relay's must be
that setting, with another default or narrower limits at most.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from inspect import CO_VARARGS, get_annotations, getattr_static, isfunction
from itertools import takewhile
from types import FunctionType
from typing import Any, ClassVar, Final, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from relay.api import Plugin, Settings
from relay.api.internal import annotate

TYPE: Final = "[A-Za-z][A-Za-z0-9_.-]*"
"""Names of types, which appear in conf.d, in commands and in the JSON Schema."""
LIBRARY: Final = r"[^\W\d]\w*(\.[^\W\d]\w*)*"
"""Names of imports, in `requires`."""
REQUIREMENT: Final = r"[A-Za-z0-9]\S*"
"""What pip installs, in `requires`."""
NAMING: Final = ("per_type_settings", "erasure_setting", "auth_setting")
"""Attributes of a class that name settings."""
CALLED: Final = (
    *("open", "probe", "deliver", "erase", "close", "key"),
    *("authorize", "verify", "respond", "decode", "kept", "look_after", "remember", "recall"),
    *("apply", "apply_all", "send"),
)
"""Methods of plugins that relay calls, with the arguments of the base's methods in their order."""
LIMITS: Final = (Ge, Gt, Le, Lt)
MADE: Final = {
    "connector": ("name", "settings", "folder", "notice", "worker"),
    "source": ("name", "settings", "_tokens", "_kinds"),
    "filter": ("name", "settings"),
    "alert": ("name", "settings"),
}
"""Attributes of each kind of object after its base's `__init__`."""


def check_class(plugin: type[Plugin], base: type[Plugin], settings: type[Settings]) -> None:
    """Check a plugin's class against the base and settings of its kind.

    Raises TypeError, which names the class and the attribute or setting.
    """
    name = plugin.__name__
    if not isinstance(plugin.type, str) or not re.fullmatch(TYPE, plugin.type):
        raise TypeError(f"{name}.type: expected letters, digits, _ . and -, with a letter first, got {plugin.type!r}")
    if not isinstance(plugin.Settings, type) or not issubclass(plugin.Settings, settings):
        raise TypeError(f"{name}.Settings must be a subclass of {settings.__name__}")
    _check_methods(plugin, base)
    for attribute, value in _read_own(plugin, base).items():
        place = f"{plugin.__name__}.{attribute}"
        try:
            _make_adapter(base, attribute).validate_python(value, strict=True)  # type: ignore[arg-type]
        except ValidationError as error:
            raise TypeError(f"{place}: {error.errors()[0]['msg']}, got {value!r}") from None
        named = value if isinstance(value, tuple) else (value,) if value else ()
        for one in named if attribute in NAMING else ():
            if one not in plugin.Settings.model_fields:
                raise TypeError(f"{place}: {plugin.__name__}.Settings has no setting {one}")
    for library, requirement in plugin.requires.items():
        if not (re.fullmatch(LIBRARY, library) and re.fullmatch(REQUIREMENT, requirement)):
            expected = 'the name of an import and what pip installs, such as {"obstore": "my-plugin[s3]"}'
            raise TypeError(f"{name}.requires: expected {expected}, got {library!r}: {requirement!r}")
    for field, reason in _find_misused(plugin.Settings, settings):
        raise TypeError(f"{name}.Settings.{field} {reason}")


def check_made(kind: str, name: str, one: object) -> None:
    """Check an object that a class has made for a table of this name. Raises TypeError, and what the object raises."""
    if any(not hasattr(one, attribute) for attribute in MADE[kind]):
        raise TypeError("its __init__ does not call super().__init__ with name and settings, as it has to")
    if getattr(one, "name", None) != name:
        raise TypeError("its __init__ gives it another name than the table has")


def _check_methods(plugin: type[Plugin], base: type[Plugin]) -> None:
    """Check that relay can call each method of CALLED. Raises TypeError."""
    for method in CALLED:
        own, known = getattr_static(plugin, method, None), getattr_static(base, method, None)
        if own is not known and isfunction(own) and isfunction(known) and not _takes(own, known.__code__.co_argcount):
            said = f"relay calls it with {_list_names(known)}, but it takes {_list_names(own)}"
            raise TypeError(f"{plugin.__name__}.{method}: {said}")


def _takes(method: FunctionType, count: int) -> bool:
    """Return whether a function can be called with so many arguments. Reads its code, and evaluates no annotation."""
    code = method.__code__
    is_enough = count >= code.co_argcount - len(method.__defaults__ or ())
    has_room = count <= code.co_argcount or bool(code.co_flags & CO_VARARGS)
    return is_enough and has_room and code.co_kwonlyargcount == len(method.__kwdefaults__ or {})


def _list_names(method: FunctionType) -> str:
    code = method.__code__
    return f"({', '.join(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])})"


def _read_own(plugin: type[Plugin], base: type[Plugin]) -> dict[str, Any]:
    """Return the attributes that differ from those of the base: few, and to check an attribute takes half a ms."""
    values = {name: getattr(plugin, name) for name in _attributes(base)}  # type: ignore[arg-type]  # classes have hashes
    return {name: value for name, value in values.items() if value is not getattr(base, name)}


@cache
def _attributes(base: type[Plugin]) -> Mapping[str, Any]:
    """Return the attributes that relay reads from the classes of a kind, with their types."""
    hints = get_type_hints(base, include_extras=True).items()
    return {
        name: get_args(hint)[0]
        for name, hint in hints
        if get_origin(hint) is ClassVar and name not in ("type", "Settings")
    }


@cache
def _make_adapter(base: type[Plugin], attribute: str) -> "TypeAdapter[Any]":
    return TypeAdapter(_attributes(base)[attribute])  # type: ignore[arg-type]


def _find_misused(model: type[Settings], base: type[Settings]) -> Iterator[tuple[str, str]]:
    """Yield the settings that differ from those of every table of the kind, and what is wrong."""
    parts = [*takewhile(lambda part: part is not base, model.__mro__)]
    plain = {name for part in parts for name in vars(part)}
    declared = plain.union(*(get_annotations(part) for part in parts))
    for name, known in base.model_fields.items():
        if name in plain or name not in model.model_fields:
            yield name, "is a setting of every table: it stays a setting"
        elif name in declared or model.model_fields[name].default is not known.default:
            yield from _changed(model.model_fields[name], name, known)
    keys = {field.alias or name for name, field in base.model_fields.items()}
    methods = {name for part in base.__mro__ if issubclass(part, Settings) for name in vars(part)}
    for name, field in model.model_fields.items():
        if name not in base.model_fields and (name in methods or keys & {name, field.alias, field.validation_alias}):
            yield name, "is a name that relay uses itself: choose another"


def _changed(field: FieldInfo, name: str, known: FieldInfo) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a redeclared setting; nothing for another default or narrower limits."""
    kind, mine = known.annotation, field.annotation
    if isinstance(kind, type) and issubclass(kind, Settings):
        if mine is kind:
            yield name, f"gets its defaults one by one, where the class begins: after its type, {name}={{...}}"
        elif isinstance(mine, type) and issubclass(mine, kind):
            yield from ((f"{name}.{inner}", reason) for inner, reason in _find_misused(mine, kind))
        else:
            yield name, f"is a setting of every table: it stays a {kind.__name__}"
    elif (
        mine != kind
        or field.alias != known.alias
        or not all(any(one == other or _is_narrower(one, other) for one in field.metadata) for other in known.metadata)
    ):
        yield name, "is a setting of every table: it keeps its type and its limits, or choose another name"
    elif not field.is_required():
        # a default is a setting's result, not its text: seconds, not "30s"
        kind = annotate(field.annotation, (part for part in field.metadata if isinstance(part, LIMITS)))
        try:
            TypeAdapter(kind).validate_python(field.get_default(call_default_factory=True), strict=True)
        except ValidationError as error:
            yield name, f"has a wrong default: {error.errors()[0]['msg']}"


def _is_narrower(one: object, other: object) -> bool:
    match one, other:
        case (Ge(ge=mine), Ge(ge=limit)) | (Gt(gt=mine), Gt(gt=limit)) | (Gt(gt=mine), Ge(ge=limit)):
            return bool(mine >= limit)  # type: ignore[operator]
        case (Le(le=mine), Le(le=limit)) | (Lt(lt=mine), Lt(lt=limit)) | (Lt(lt=mine), Le(le=limit)):
            return bool(mine <= limit)  # type: ignore[operator]
    return False
