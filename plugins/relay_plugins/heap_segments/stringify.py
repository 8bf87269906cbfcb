"""Writes JSON as JavaScript does: as `JSON.stringify(JSON.parse(text))`. Pure."""

import json
import re
from typing import Any, Final, NoReturn

ARRAY_INDEX: Final = re.compile(r"0|[1-9]\d{0,9}", re.ASCII)
INDICES: Final = 2**32 - 1
"""Names that are whole numbers below this number come first, in ascending order. (ECMA-262, OrdinaryOwnPropertyKeys)"""


class Number(str):
    """A number in JavaScript's form."""

    __slots__ = ()


def stringify(text: bytes) -> bytes:
    """Write a JSON text in JavaScript's form. Invalid UTF-8 becomes U+FFFD. Raises ValueError, RecursionError."""
    value = json.loads(
        text.decode("utf-8", "replace"), parse_float=_read_number, parse_int=_read_number, parse_constant=_refuse
    )
    return _write(value).encode("utf-8", "backslashreplace")  # escapes unpaired surrogates


def _write(value: Any) -> str:
    """Write a value with its names in JavaScript's order: array indices first, sorted, then the others as they came."""
    match value:
        case Number():
            return value
        case str():
            return json.encoder.encode_basestring(value)
        case dict():
            indices = [name for name in value if ARRAY_INDEX.fullmatch(name) and int(name) < INDICES]
            names = dict.fromkeys([*sorted(indices, key=int), *value]) if indices else value
            string = json.encoder.encode_basestring
            return "{" + ",".join([f"{string(name)}:{_write(value[name])}" for name in names]) + "}"
        case list():
            return "[" + ",".join(map(_write, value)) + "]"
    return {None: "null", True: "true", False: "false"}[value]


def _read_number(text: str) -> Number:
    """Read a double; write it by the fewest digits that tell it from other doubles. (ECMA-262, Number::toString)"""
    double = float(text)
    if not double:
        return Number("0")
    if double in (float("inf"), float("-inf")):
        return Number("null")
    mantissa, _, exponent = repr(abs(double)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))  # this many digits stand before it
    sign, digits = "-" if double < 0 else "", digits.rstrip("0")
    if 0 < point <= 21:
        if len(digits) <= point:
            return Number(sign + digits.ljust(point, "0"))
        return Number(f"{sign}{digits[:point]}.{digits[point:]}")
    if -6 < point <= 0:
        return Number(f"{sign}0.{'0' * -point}{digits}")
    rest = "." + digits[1:] if len(digits) > 1 else ""
    return Number(f"{sign}{digits[0]}{rest}e{point - 1:+d}")


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
