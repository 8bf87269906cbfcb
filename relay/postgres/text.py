"""Text that PostgreSQL does not take: zero characters and lone surrogates, as ids and answers from outside have them.

Such a character is stored as an escape character with the number of the character. The text comes back as it was, so
that an id still finds its user.
"""

import re
from typing import Any, Final

from psycopg.abc import AdaptContext
from psycopg.adapt import Buffer, Loader
from psycopg.types.string import StrDumperUnknown

ESCAPE: Final = "\x1a"
_REFUSED: Final = re.compile("[\0\x1a\ud800-\udfff]")
_ESCAPED: Final = re.compile("\x1a([0-9a-f]{4})")


class EscapingDumper(StrDumperUnknown):
    """Escapes what PostgreSQL does not take."""

    def dump(self, obj: str) -> Buffer:
        """Return the bytes of a text for the server."""
        return _REFUSED.sub(lambda found: f"{ESCAPE}{ord(found[0]):04x}", obj).encode()


class UnescapingLoader(Loader):
    """Restores what `EscapingDumper` has escaped."""

    def load(self, data: Buffer) -> Any:
        """Return the text of bytes from the server."""
        text = str(data, "utf-8")
        return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text) if ESCAPE in text else text


def register(context: AdaptContext) -> None:
    """Make a connection store and return every text as it is."""
    context.adapters.register_dumper(str, EscapingDumper)
    context.adapters.register_loader("text", UnescapingLoader)
