"""JSON as JavaScript writes it: what `JSON.stringify(JSON.parse(text))` returns. Pure."""

import json
import re
from typing import Any, Final, NoReturn

ARRAY_INDEX: Final = re.compile(r"0|[1-9]\d{0,9}", re.ASCII)
INDICES: Final = 2**32 - 1
"""Names that are whole numbers below this come first, in ascending order. (ECMA-262, OrdinaryOwnPropertyKeys)"""


class Number(str):
    """A number, as JavaScript writes it."""

    __slots__ = ()


def stringify(text: bytes) -> bytes:
    """The JSON of a text in JavaScript's form. Invalid UTF-8 becomes U+FFFD. Raises ValueError, RecursionError."""
    value = json.loads(text.decode("utf-8", "replace"), parse_float=_number, parse_int=_number, parse_constant=_refuse)
    return _written(value).encode("utf-8", "backslashreplace")  # it is unpaired surrogates that are escaped


def _written(value: Any) -> str:
    match value:
        case Number():
            return value
        case str():
            return json.encoder.encode_basestring(value)
        case dict():
            string = json.encoder.encode_basestring
            return "{" + ",".join([f"{string(name)}:{_written(value[name])}" for name in _ordered(value)]) + "}"
        case list():
            return "[" + ",".join(map(_written, value)) + "]"
    return {None: "null", True: "true", False: "false"}[value]


def _ordered(names: dict[str, Any]) -> list[str]:
    indices = [name for name in names if ARRAY_INDEX.fullmatch(name) and int(name) < INDICES]
    return [*sorted(indices, key=int), *(name for name in names if name not in {*indices})] if indices else [*names]


def _number(text: str) -> Number:
    """A number is a double, written by the fewest digits that tell it from others. (ECMA-262, Number::toString)"""
    double = float(text)
    if not double:
        return Number("0")
    if double in (float("inf"), float("-inf")):
        return Number("null")
    sign, digits, point = _parts(double)
    if 0 < point <= 21:
        if len(digits) <= point:
            return Number(sign + digits.ljust(point, "0"))
        return Number(f"{sign}{digits[:point]}.{digits[point:]}")
    if -6 < point <= 0:
        return Number(f"{sign}0.{'0' * -point}{digits}")
    rest = "." + digits[1:] if len(digits) > 1 else ""
    return Number(f"{sign}{digits[0]}{rest}e{point - 1:+d}")


def _parts(double: float) -> tuple[str, str, int]:
    """The sign of a number, its digits without zeros around them, and how many of them stand before the point."""
    mantissa, _, exponent = repr(abs(double)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    return "-" if double < 0 else "", digits.rstrip("0"), point


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
