"""Finds what may be secret in a configuration, and shows lines without it."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from relay.api.internal import SECRET_FORMS

HIDDEN: Final = "..."
"""Stands for what is hidden in an excerpt."""

SHOWN: Final = 200
"""Characters of a line that are shown, at most."""

HEADERS: Final = ("authorization", "x-api-key", "api-key", "cookie")
"""Request headers whose values are secrets, in lower case."""

_PASSWORD: Final = re.compile(r"://[^/\s\"']*@")
_IN_QUERY: Final = re.compile(r"(?i)([?&](?:(?:api|access|client)?[_-]?(?:key|token|secret)|password)=)[^&#\s\"']+")
_NAMED: Final = re.compile(r"(?i)((?:authorization|cookie|api[_-]?key|tokens?|secrets?|salt|password)[\"']?\s*=).*")
"""A key named like a secret, and all that follows it."""
_REFERENCE: Final = r"""\{[ \t]*(?:credential|file|env)[ \t]*=[ \t]*(?:"[^"\n]*"|'[^'\n]*')[ \t]*\}"""
_REFERENCES: Final = re.compile(rf"[ \t]*(?:{_REFERENCE}|\[(?:[ \t]*{_REFERENCE}[ \t]*,?)*[ \t]*\]?)[ \t]*(?:\#.*)?")
"""A reference to a secret, or a list of references."""


def explain_plain_secret(path: Sequence[str | int], text: str) -> str | None:
    """Explain why a text at this key path looks like a secret in plain text; None if it does not."""
    if path[-2:-1] == ("headers",) and str(path[-1]).lower() in HEADERS:
        return f"looks like a secret in plain text: write a reference instead, {SECRET_FORMS}"
    if "://" in text and _IN_QUERY.search(text):
        return f"looks like a secret in a URL: if the receiver takes it in a header, refer to it there, {SECRET_FORMS}"
    return None


def hide_secrets(text: str) -> str:
    """Hide the secrets in the URLs of a text."""
    return _IN_QUERY.sub(rf"\1{HIDDEN}", _PASSWORD.sub(f"://{HIDDEN}@", text))


@lru_cache(maxsize=64)
def make_excerpt(line: str, *, private: bool) -> str:
    """Show a line of TOML: without values if it is private, else without what looks like a secret."""
    line = line.rstrip()
    if private:
        shown = re.sub(r"(?<==).*|[\"'].*", f" {HIDDEN}", line)
        return HIDDEN if shown == line and not line.lstrip().startswith("[") else _cut(shown)
    return _cut(_NAMED.sub(rf"\1 {HIDDEN}", hide_secrets(line)))


def hide_in_text(text: str) -> str:
    """Show the text of a file without what looks like a secret. References to secrets stay."""
    return "\n".join(map(_hide_in_line, hide_secrets(text).split("\n")))


def _hide_in_line(line: str) -> str:
    found = _NAMED.search(line)
    return line if found is None or _REFERENCES.fullmatch(line, found.end(1)) else _NAMED.sub(rf"\1 {HIDDEN}", line)


def _cut(line: str) -> str:
    return line if len(line) <= SHOWN else f"{line[:SHOWN]}..."


def is_secret(path: Sequence[str | int]) -> bool:
    """Return whether a key is named like a secret."""
    name = next((step for step in reversed(path) if isinstance(step, str)), "")
    return _NAMED.search(f"{name} =") is not None


def show_value(path: Sequence[str | int], text: str) -> str:
    """Show the text of this key path; nothing of it if the key is named like a secret."""
    return HIDDEN if is_secret(path) else hide_secrets(text)
