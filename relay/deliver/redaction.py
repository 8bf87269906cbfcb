"""Keeps a connector's secrets out of logs and of the state: a destination may repeat what it was sent, and exceptions
of HTTP clients tell URLs whole. Pure."""

import re
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import quote, unquote

from relay.api import Secret, Settings
from relay.config import HIDDEN, Failure, Mistake, leaves
from relay.guests import named

SHORTEST: Final = 4
"""Characters of a secret at least, or of what a cut has left of it: hiding less would garble every text."""
TOKEN: Final = 8
"""Characters of a piece of a URL that may be a secret by itself, unless it is a word."""
_URL: Final = re.compile(r"\w[\w+.-]*://(?:([^/?#\s]*)@)?[^/?#\s]*(\S*)")


class Redaction:
    """Hides the values of all secrets in a connector's settings, and what its URLs have beside the host, as they are or
    percent-encoded, in either case.

    Secrets of fewer than SHORTEST characters are not hidden.
    """

    def __init__(self, settings: Settings) -> None:
        plain = {text for text in _texts(settings) if len(text) >= SHORTEST}
        encoded = {quote(text, safe=safe) for text in plain for safe in ("", "/")}
        self._secrets = sorted((text.lower() for text in plain | encoded), key=len, reverse=True)
        self._whole = re.compile("|".join(map(re.escape, self._secrets)), re.IGNORECASE)
        starts = "|".join(re.escape(secret[:SHORTEST]) for secret in self._secrets)
        self._start = re.compile(f"(?={starts})", re.IGNORECASE)

    def clean(self, text: str) -> str:
        """The text with "..." for every secret, also for one that the end of the text cuts off."""
        if not self._secrets:
            return text
        for start in self._start.finditer(text):
            rest = text[start.start() :].lower()
            if any(secret.startswith(rest) for secret in self._secrets):
                text = text[: start.start()] + HIDDEN
                break
        return self._whole.sub(HIDDEN, text)


def mistakes_of(failures: Sequence[Failure]) -> list[Mistake]:
    """What cannot be made, as mistakes of the configuration, without what the tables keep secret."""
    return [
        Mistake(
            file=one.table.file,
            line=one.table.line,
            key=f"{one.kind}.{one.table.name}",
            reason=f"cannot be made: {Redaction(one.table.settings).clean(named(one.error))}",
        )
        for one in failures
    ]


def _texts(settings: Settings) -> Iterator[str]:
    """The secrets as a destination may repeat them: also in one line, and without what comes before the last space
    ("Bearer" in a header)."""
    for _, leaf in leaves((), settings):
        if isinstance(leaf, Secret):
            value = "" if leaf.problem else leaf.reveal()
            yield from (value, " ".join(value.split()), value.rpartition(" ")[2])
        else:
            value = str(leaf)
        yield from _in_urls(value)


def _in_urls(text: str) -> Iterator[str]:
    """The password of each URL, all behind the host, and of that what looks like a token."""
    for user, target in _URL.findall(text):
        pieces = [piece for piece in re.split(r"[/?&=#]", target) if len(piece) >= TOKEN and not _is_word(piece)]
        for secret in (user.rpartition(":")[2], target.rstrip("/"), *pieces):
            yield from (secret, unquote(secret))


def _is_word(piece: str) -> bool:
    return piece.isalpha() and piece.islower()
