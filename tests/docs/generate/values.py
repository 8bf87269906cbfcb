"""Settings in words: what may be written for a setting, and what holds if nothing is written."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, MaxLen, MinLen
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

from relay.api import BearerToken, ByteSize, Duration, EventSelection, HeaderSecret, HttpUrl, Secret, UrlPath
from relay.api.settings import Rate, StartAt, annotate, write_duration, write_size
from relay.api.transport.addresses import NetworkList
from relay.api.transport.pem import Pem
from relay.api.transport.route import Proxy
from relay.config.address import Listen, ListenIfAny
from relay.config.console.settings import HeaderName, HostName, UserSecret
from relay.config.dsn import Dsn
from relay.words import format_setting
from relay_plugins.alerts.email import Address
from relay_plugins.alerts.url import SecretUrl
from relay_plugins.filters.condition import EventCondition, Limit
from relay_plugins.filters.field import FieldPath, FieldPaths
from relay_plugins.filters.reshape import Constant
from relay_plugins.http import HeaderValue
from tests.docs.generate.markdown import code

PLAIN: Final[Mapping[Any, str]] = {
    str: "text",
    Any: "value",
    bool: "`true` or `false`",
    int: "integer",
    float: "number",
    Path: "path",
    Secret: "reference to a secret",
    BearerToken: "reference to a secret",
    Dsn: "reference to a secret",
    HeaderSecret: "reference to a secret",
    UserSecret: "reference to a secret",
    EventCondition: "condition",
}


def _reader(kind: Any) -> Any:
    """Return the function that reads values of an annotated type: pydantic keeps it, and not the name of the type."""
    return next(part.func for part in kind.__metadata__ if hasattr(part, "func"))


READ: Final[Mapping[Any, str]] = {
    _reader(kind): words
    for kind, words in (
        (Duration, "duration"),
        (ByteSize, "size"),
        (Rate, "number"),
        (HttpUrl, "URL"),
        (UrlPath, "path of a URL"),
        (EventSelection, "list of texts"),
        (StartAt, "text"),
        (NetworkList, "list of networks"),
        (Pem, "path or reference to a secret"),
        (Proxy, 'URL, `"environment"` or reference to a secret'),
        (Listen, "address or list of addresses"),
        (ListenIfAny, "address or list of addresses"),
        (Address, "e-mail address"),
        (SecretUrl, "URL or reference to a secret"),
        (FieldPath, "dotted path"),
        (FieldPaths, "dotted path or list of dotted paths"),
        (Limit, "number or time"),
        (Constant, "text, number, `true` or `false`"),
        (HeaderValue, "text or reference to a secret"),
        (HostName, "host name"),
        (HeaderName, "header name"),
    )
}
"""Types that are more than their plain type, by the function that reads their values."""
WRITERS: Final[Mapping[str, Callable[[Any], object]]] = {"duration": write_duration, "size": write_size}
SCALARS: Final = {str, bool, int, float}


def kind_of(field: FieldInfo) -> str:
    """Say in words what may be written for a setting. Raises LookupError for a type that has no words here."""
    return _words(field.annotation, field.metadata)


def default_of(field: FieldInfo) -> str:
    """Say in words what holds if a setting is left out."""
    if field.is_required():
        return "Required."
    value = field.get_default(call_default_factory=True)
    needs_some = any(isinstance(part, MinLen) and part.min_length for part in field.metadata)
    if value is None or (needs_some and not value):
        return "Default: not set."
    return f"Default: {code(format_setting(written(field, value)))}."


def written(field: FieldInfo, value: Any) -> Any:
    """Write a value of a setting as plain data for TOML."""
    return TypeAdapter(annotate(field.annotation, field.metadata)).dump_python(value, mode="json", by_alias=True)


def _words(kind: Any, metadata: Sequence[Any]) -> str:
    word = next((READ[part.func] for part in metadata if getattr(part, "func", None) in READ), "") or _plain(kind)
    return f"{word}{_limits(word, metadata)}"


def _plain(kind: Any) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if hasattr(kind, "__metadata__"):
        return _words(inner[0], kind.__metadata__)
    if origin is Literal:
        return _either(code(format_setting(value)) for value in inner)
    if origin in (Union, UnionType):
        inner = tuple(one for one in inner if one is not NoneType)
        return "text, number, `true` or `false`" if {*inner} >= SCALARS else _either(dict.fromkeys(map(_plain, inner)))
    if origin is tuple:
        return f"list of {_several(_plain(inner[0]))}"
    if origin is dict:
        return f"table of {_several(_plain(inner[1]))}"
    if kind not in PLAIN:
        raise LookupError(f"{kind} has no words in {__name__}")
    return PLAIN[kind]


def _several(words: str) -> str:
    """Put each noun of the words in the plural; code stays."""
    nested = r"(?:list|table) of .+?(?=,| or|$)"
    return re.sub(rf"`[^`]*`|{nested}|reference to a secret|address|\b(?!or\b)[a-z]+(?=,| or|$)", _plural, words)


def _plural(found: re.Match[str]) -> str:
    noun = found[0]
    irregular = {"reference to a secret": "references to secrets", "address": "addresses"}
    if noun.startswith("`"):
        return noun
    head, of, rest = noun.partition(" of ")
    return f"{irregular.get(head, f'{head}s')}{of}{rest}"


def _either(words: Iterable[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def _limits(word: str, metadata: Sequence[Any]) -> str:
    """Write limits as an admin writes the values; that durations and sizes are not negative goes without."""
    write = WRITERS.get(word, lambda value: f"{value:,}")
    low = high = ""
    for part in metadata:
        match part:
            case Ge(ge=limit) if limit or word not in WRITERS:
                low = f"at least {code(str(write(limit)))}"
            case Gt(gt=limit):
                low = f"more than {code(str(write(limit)))}"
            case Le(le=limit):
                high = f"at most {code(str(write(limit)))}"
            case MaxLen(max_length=limit):
                high = f"at most {limit} {'characters' if word == 'text' else 'entries'}"
    least, most = low.removeprefix("at least "), high.removeprefix("at most ")
    if least == most and least:
        return f", always {least}"
    return "".join(f", {limit}" for limit in (low, high) if limit)
