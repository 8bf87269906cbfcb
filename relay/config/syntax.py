"""Explains why a text is not TOML, in the words of its author."""

import re
import unicodedata
from typing import Final

from relay.config.excerpt import make_excerpt
from relay.config.line_numbers import locate_last
from relay.config.mistake import Mistake, format_path

QUOTES: Final = "\u201c\u201d\u201e\u201f\u2018\u2019\u201a\u201b\u00ab\u00bb\u2033\u2032\u00b4`"
"""Quotes as word processors, chats and slips of a finger make them."""
_WHOLE: Final = re.compile(
    r"""\#[^\n]* | \"{3}(?:\\.|[^\\])*?\"{3} | '{3}.*?'{3} | "(?!"")(?:\\.|[^"\\\n])*" | '(?!'')[^'\n]*'""",
    re.VERBOSE | re.DOTALL,
)
_BEGINNING: Final = re.compile(r"""[#"']""")
YAML: Final = 'this looks like YAML: in TOML a table is [source.braze], and a setting is type = "currents"'
FOREIGN: Final = {
    "{": 'this looks like JSON: in TOML a table is [source.braze], and a setting is type = "currents"',
    "//": "a comment begins with #",
    ";": "a comment begins with #",
    "<<<<<<<": "a merge was not completed: keep one of both sides, and remove its marks",
    ">>>>>>>": "a merge was not completed: keep one of both sides, and remove its marks",
}
"""Beginnings of lines that are no TOML, and what to do."""
_TYPE: Final = re.compile(r"\s*type\s*=\s*(?P<name>[a-z][a-z_-]*)\s*")
"""A line with the type of a plugin and nothing else: lower-case letters, which tokens rarely are."""
_TYPED: Final = ("source", "connector", "filter", "alert")
"""Tables whose tables have a type."""
_LIKE_YAML: Final = re.compile(r"\s*(?:- )?[\w.-]+:(?:\s|$)")
_TWICE: Final = re.compile(r"Cannot (?:declare|overwrite|mutate)")


def make_syntax_mistake(name: str, text: str, said: str) -> Mistake:
    """Make a mistake from the parser's message about the text of a file."""
    lines = text.split("\n")
    match = re.search(r"at line (\d+), column (\d+)", said)
    number, column = (int(match[1]), int(match[2])) if match else (len(text.removesuffix("\n").split("\n")), len(text))
    unclosed = _find_unclosed(text)
    if unclosed is not None and unclosed <= (number, column):
        number, column = unclosed
        line = lines[number - 1]
        reason = _explain_unclosed(line, column)
    else:
        line = lines[number - 1]
        foreign = (reason for start, reason in FOREIGN.items() if line.lstrip().startswith(start))
        reason = (
            _find_odd_character(line)
            or (_find_repeated(lines, number) if _TWICE.match(said) else None)
            or (next(foreign, None) if said.startswith("Invalid statement") else None)
            or (YAML if said.startswith("Expected '='") and _LIKE_YAML.match(line) else None)
            or said + _advise_on_word(line, column, said)
        )
    # Any key of a file that is not TOML may be a misspelled secret. Only the type of a plugin is known to be none.
    shown = make_excerpt(line, private=not _is_type(lines, number, column)) if match or unclosed else ""
    return Mistake(file=name, line=number, reason=f"not TOML: {reason}", excerpt=shown)


def _find_unclosed(text: str) -> tuple[int, int] | None:
    """Return line and column of the start of a quoted text without an end; None without any."""
    at = 0
    while begins := _BEGINNING.search(text, at):
        if (whole := _WHOLE.match(text, begins.start())) is None:
            before = text[: begins.start()]
            return before.count("\n") + 1, begins.start() - before.rfind("\n")
        at = whole.end()
    return None


def _explain_unclosed(line: str, column: int) -> str:
    """Explain that a text has no end, and name a quote in it that only looks like its end."""
    written = line[column - 1 :]
    quote = written[:3] if written[:3] in ('"""', "'''") else written[0]
    odd = next((f": {one} is no quote of TOML" for one in written if one in QUOTES), "")
    return f"the text that begins in column {column} has no closing {quote}{odd}"


def _is_type(lines: list[str], number: int, column: int) -> bool:
    """Return whether the line holds the type of a plugin, which begins in this column, and nothing else."""
    typed = _TYPE.fullmatch(lines[number - 1])
    if typed is None or typed.start("name") != column - 1:
        return False
    path, _ = locate_last("\n".join(lines[:number]))
    return len(path) == 3 and path[0] in _TYPED


def _find_odd_character(line: str) -> str | None:
    """Name a character outside texts and comments that only looks like a quote or a space."""
    for column, one in enumerate(_WHOLE.sub(lambda found: "_" * len(found[0]), line), 1):
        if one in QUOTES:
            return f'{one} in column {column} is no quote of TOML: write " instead'
        if unicodedata.category(one) in ("Zs", "Cf") and one != " ":
            named = "byte order mark" if one == "\ufeff" else unicodedata.name(one, "character").lower()
            cure = "write a plain space instead" if unicodedata.category(one) == "Zs" else "take it out"
            return f"in column {column} is a {named} (U+{ord(one):04X}), which cannot be seen: {cure}"
    return None


def _find_repeated(lines: list[str], number: int) -> str | None:
    """Return where the table or key at a line's end is already; None if the line itself is the first."""
    path, first = locate_last("\n".join(lines[:number]))
    if first == number:
        return None
    if lines[number - 1].lstrip().startswith("["):
        return (
            f"[{format_path(path)}] stands already in line {first}: keep one of them, or give this table another name"
        )
    return f"{format_path(path)} is set already in line {first}: keep one of them"


def _advise_on_word(line: str, column: int, said: str) -> str:
    """Return what to do about a bare word, as in `type = http` or `timeout = 30s`; nothing without any."""
    before, word = line[: column - 1], re.match(r"[^\s\"'=,#\[\]{}]*", line[column - 1 :])
    if not word or not word[0] or not (said.startswith("Invalid value") or re.search(r"=\s*[\w.:+-]+$", before)):
        return ""
    return "; true and false are lower case" if word[0] in ("True", "False") else "; strings need quotes"
