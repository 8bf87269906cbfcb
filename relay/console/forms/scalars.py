"""Reads and writes single values as the text of an input. Pure."""

import re
from math import isfinite
from typing import Any, Final

from relay.console.forms.fields import Codec
from relay.console.forms.toml_text import read_toml
from relay.words import format_toml

YES_OR_NO: Final = {"yes": True, "no": False}
_INTEGER: Final = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?\d{1,300}(\.\d{1,300})?([eE][+-]?\d{1,3})?", re.ASCII)


def read_scalar(codec: Codec, text: str) -> Any:
    """Return the value that a text stands for. A text that is none of the codec's stays a text: relay says why."""
    match codec:
        case "boolean":
            return YES_OR_NO.get(text, text)
        case "quantity":
            return 0 if text == "0" else text
        case "integer" if _INTEGER.fullmatch(text):
            return int(text)
        case "number" if _NUMBER.fullmatch(text):
            return _read_number(text)
        case "any":
            return _read_any(text)
        case "reference" if text.startswith("{"):
            return _read_toml(text)
    return text


def write_scalar(codec: Codec, value: Any) -> str:
    """Return a text that may stand for a value. Only `read_scalar` tells whether it does."""
    if codec == "boolean" and isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, str):
        return format_toml(value)
    return format_toml(value) if codec == "any" and _read_any(value) != value else value


def _read_number(text: str) -> int | float | str:
    if _INTEGER.fullmatch(text):
        return int(text)
    return number if isfinite(number := float(text)) else text


def _read_any(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    if text.startswith('"'):
        return _read_toml(text)
    return _read_number(text) if _NUMBER.fullmatch(text) else text


def _read_toml(text: str) -> Any:
    try:
        return read_toml(text)
    except ValueError:
        return text
