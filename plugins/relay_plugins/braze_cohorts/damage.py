"""Finds ids that spreadsheets and databases have damaged, before a push replaces a membership. Pure."""

import re
from collections.abc import Sequence
from typing import Final

AS_TEXT: Final = "have the column be text where the file is made, and export it anew"
IF_RIGHT: Final = "if that is right, say --as-is"
MONTHS: Final = (
    "(jan|feb|mar|apr|may|jun|jul|aug|sept?|oct|nov|dec|mär|mrz|mai|okt|dez|janv|févr|avr|juin|juil|août|déc)"
)
SUMS: Final = (
    r"((grand|sub)[\s-]?)?totals?|total g[eé]n[eé]ral|totale|totaal|sum|(zwischen|gesamt)?summe|(ins)?gesamt|somme|suma"
)


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


NUMBER: Final = _compile(r"\d+([.,]0+)?")
FRACTION: Final = _compile(r"\d+[.,]0+")
SUM: Final = _compile(rf"({SUMS})[\s:]*[\d.,]*")
COUNT: Final = _compile(r"\(?\d[\d.,]* (rows?|row\(s\)|records?|zeilen?|lignes?|filas?)( \w+)*\)?")
DAMAGE: Final = (
    (
        _compile(r"\d([.,]\d+)?E\+\d+"),
        f"is what a spreadsheet shows of a long number: its last digits are lost; {AS_TEXT}",
    ),
    (
        _compile(
            r"nan|null|\(null\)|none|nil|undefined|<na>|n/?a|n\.a\.|\\n|[+-]?inf(inity)?|[-?.\u2013\u2014]+|"
            r"#nv|#\u00a1?[\w/]+[!?]|#n/[ad]"
        ),
        "stands for a value that is missing or wrong: remove the line",
    ),
    (_compile(r"true|false|wahr|falsch|vrai|faux"), f"is a truth value and no id: remove the line, or {AS_TEXT}"),
    (_compile(r"=.*|'.*"), "is a guard or formula of a spreadsheet and no bare id: export its value alone"),
    (SUM, "is the line of a sum and no user: remove it"),
    (COUNT, "is the line of a count and no user: remove it"),
    (_compile(r"\d{1,3}(,\d{3})+"), f"is a number that a spreadsheet has parted by thousands; {AS_TEXT}"),
    (
        _compile(rf"\d{{1,2}}[. /-]{{1,2}}{MONTHS}([. /-]+\d{{2,4}})?|{MONTHS}[. /-]+\d{{2,4}}"),
        f"is what a spreadsheet has taken for a date; {AS_TEXT}",
    ),
)
"""Patterns of damaged ids, and the words for each."""


def check_undamaged(users: Sequence[str]) -> None:
    """Raise ValueError if a program has damaged some of the users."""
    for user in users:
        problem = next((what for pattern, what in DAMAGE if pattern.fullmatch(user)), "")
        if not user.isprintable():
            problem = "has characters that cannot be seen"
        if problem:
            raise ValueError(f"{user[:80]!r} {problem}; {IF_RIGHT}")
    fraction = next(filter(FRACTION.fullmatch, users), None)
    if fraction is not None and all(map(NUMBER.fullmatch, users)):
        which = "all users end" if all(map(FRACTION.fullmatch, users)) else "all users are numbers, and some end"
        raise ValueError(f"{which} like {fraction!r}: a program took them for fractions; {AS_TEXT}; {IF_RIGHT}")


def is_sum(row: Sequence[str]) -> bool:
    """Return whether a line is the line of a sum or of a count."""
    return any(SUM.fullmatch(cell.strip()) or COUNT.fullmatch(cell.strip()) for cell in row)
