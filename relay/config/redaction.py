"""Keeps the secrets of plugins out of logs, answers and the state. Destinations may repeat them, and exceptions quote
whole URLs.

`Redaction` is pure. `LOG` has the secrets of all plugins of the process.
"""

import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from functools import partial
from typing import Any, Final
from urllib.parse import quote, unquote

from relay.api import Secret, Settings
from relay.api.internal import MORE
from relay.config.excerpt import HIDDEN, is_secret
from relay.config.merge import is_reference, list_leaves
from relay.guests import TRACE_CHARS, read_text

SHORTEST: Final = 4
"""Characters of a secret, or of its rest after a cut, at least. Hiding less would garble every text."""
TOKEN: Final = 8
"""Characters of a piece of a URL that may be a secret, unless it is a word; and of a secret that is hidden in all log
lines."""
SECRETS: Final = 1000
"""Secrets that the log knows, at most: the latest. Each reload may bring others."""
PLAIN: Final = frozenset({"timestamp", "level", "source", "connector", "filter", "alert", "call", "listener"})
"""Values of a line that relay alone writes."""
KINDS: Final = ("source", "connector", "filter", "alert")
"""Kinds of plugins, as named in log lines."""
_URL: Final = re.compile(r"\w[\w+.-]*://(?:([^/?#\s]*)@)?[^/?#\s]*(\S*)")


class Redaction:
    """Hides the secrets in a plugin's settings, and the parts of its URLs beside the host.

    They are hidden as they are or percent-encoded, in either case. A text whose key is named like a secret counts as a
    secret. Secrets of fewer than SHORTEST characters are not hidden. A table with mistakes is accepted as well.
    """

    def __init__(self, settings: Settings | Mapping[str, Any]) -> None:
        plain = {text for text in _list_forms(settings) if len(text) >= SHORTEST}
        encoded = {quote(text, safe=safe) for text in plain for safe in ("", "/")}
        self._secrets = sorted((text.lower() for text in plain | encoded), key=len, reverse=True)
        self._whole = re.compile("|".join(map(re.escape, self._secrets)), re.IGNORECASE)
        starts = "|".join(re.escape(secret[:SHORTEST]) for secret in self._secrets)
        self._start = re.compile(f"(?={starts})", re.IGNORECASE)

    def clean(self, text: str) -> str:
        """Return the text with "..." for every secret, also for one that the end of the text cuts off."""
        if not self._secrets:
            return text
        if text.endswith(MORE):
            return self.clean(text.removesuffix(MORE)) + MORE
        for start in self._start.finditer(text, max(0, len(text) - len(self._secrets[0]))):
            rest = text[start.start() :].lower()
            if any(secret.startswith(rest) for secret in self._secrets):
                text = text[: start.start()] + HIDDEN
                break
        return self._whole.sub(HIDDEN, text)


class LogRedaction:
    """Hides a plugin's secrets in lines that name it, and long secrets in all lines."""

    def __init__(self) -> None:
        self._settings: dict[tuple[str, str], Settings] = {}
        self._redactions: dict[tuple[str, str], Redaction] = {}
        self._long: dict[str, None] = {}
        self._any: re.Pattern[str] | None = None

    def note(self, kind: str, name: str, settings: Settings) -> None:
        """Hide the secrets of a plugin from now on."""
        self._settings[kind, name] = settings
        self._redactions.pop((kind, name), None)
        secrets = [
            leaf.reveal() for _, leaf in list_leaves((), settings) if isinstance(leaf, Secret) and not leaf.problem
        ]
        self._long |= dict.fromkeys(secret for secret in secrets if len(secret) >= TOKEN)
        while len(self._long) > SECRETS:
            del self._long[next(iter(self._long))]
        self._any = re.compile("|".join(map(re.escape, self._long))) if self._long else None

    def clean(self, line: MutableMapping[str, Any]) -> None:
        """Hide secrets in the values of a line, and cut the values at TRACE_CHARS."""
        cleans: list[Callable[[str], str]] = []
        for kind in KINDS:
            named = (kind, str(line[kind])) if kind in line else None
            if named in self._settings:
                if (redaction := self._redactions.get(named)) is None:
                    redaction = self._redactions[named] = Redaction(self._settings[named])
                cleans.append(redaction.clean)
        if self._any is not None:
            cleans.append(partial(self._any.sub, HIDDEN))
        for key, value in line.items():
            if key not in PLAIN:
                line[key] = _cleaned(value, cleans)


LOG: Final = LogRedaction()
"""The redaction of this process's log, with every plugin that was made."""


def _cleaned(value: object, cleans: Sequence[Callable[[str], str]]) -> object:
    if isinstance(value, bool | int | float | None):
        return value
    if isinstance(value, list | tuple):
        return [_cleaned(item, cleans) for item in value]
    if isinstance(value, dict):
        return {read_text(key): _cleaned(item, cleans) for key, item in value.items()}
    text = value[:TRACE_CHARS] if isinstance(value, str) else read_text(value)
    for clean in cleans:
        text = clean(text)
    return text


def _list_forms(settings: Settings | Mapping[str, Any]) -> Iterator[str]:
    """The secrets as somebody may repeat them: also in one line, and without what comes before the last space ("Bearer"
    in a header)."""
    for path, leaf in list_leaves((), settings):
        secret = Secret.parse(leaf) if is_reference(leaf) else leaf
        if isinstance(secret, Secret):
            value = "" if secret.problem else secret.reveal()
            yield from _forms(value)
        else:
            value = leaf if isinstance(leaf, str) else read_text(leaf)
            yield from _forms(value) if isinstance(leaf, str) and is_secret(path) else ()
        # Hide the password of a URL, all behind the host, and each part that looks like a token
        for user, target in _URL.findall(value):
            pieces = [
                piece
                for piece in re.split(r"[/?&=#]", target)
                if len(piece) >= TOKEN and not (piece.isalpha() and piece.islower())
            ]
            for secret in (user.rpartition(":")[2], target.rstrip("/"), *pieces):
                yield from (secret, unquote(secret))


def _forms(value: str) -> tuple[str, ...]:
    return value, " ".join(value.split()), value.rpartition(" ")[2]
