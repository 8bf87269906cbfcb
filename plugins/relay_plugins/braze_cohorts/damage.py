"""What spreadsheets make of ids: found before a push replaces a membership by it. Pure."""

import re
from collections.abc import Sequence
from typing import Final

AS_TEXT: Final = "have the column be text where the file is made, and export it anew"
SHORTENED: Final = re.compile(r"\d([.,]\d+)?E\+\d+", re.IGNORECASE)
NOTHING: Final = re.compile(r"nan|null|none|undefined|<na>|#(n/a|name\?|(ref|value|num|null|div/0)!)", re.IGNORECASE)
SUM: Final = re.compile(r"((grand|sub)[\s-]?)?totals?[\s:]*[\d.,]*|sum[\s:]+[\d.,]+", re.IGNORECASE)
FRACTION: Final = re.compile(r"\d+[.,]0+")


def check_undamaged(users: Sequence[str]) -> None:
    """Raise ValueError if some of the users are no ids, but what a program has made of them."""
    for user in users:
        if problem := _damage(user):
            raise ValueError(f"{user[:80]!r} {problem}")
    if users and all(map(FRACTION.fullmatch, users)):
        raise ValueError(f"all users end like {users[0]!r}: a program took them for fractions; {AS_TEXT}")


def is_sum(row: Sequence[str]) -> bool:
    """Whether a line is that of a sum."""
    return any(SUM.fullmatch(cell.strip()) for cell in row)


def _damage(user: str) -> str:
    """What is wrong with a user; "" if nothing is."""
    if not user.isprintable():
        return "has characters that cannot be seen"
    if SHORTENED.fullmatch(user):
        return f"is what a spreadsheet shows of a long number: its last digits are lost; {AS_TEXT}"
    if NOTHING.fullmatch(user):
        return "stands for a value that is missing or wrong: remove the line"
    if SUM.fullmatch(user):
        return "is the line of a sum and no user: remove it"
    return ""
