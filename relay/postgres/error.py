"""The errors of PostgreSQL, in words for an admin."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NamedTuple

import psycopg

from relay.store import Unavailable, UnavailableReason


class Meaning(NamedTuple):
    """What an error of the server means to relay, and what an admin can do."""

    reason: UnavailableReason
    advice: str


TAKEN: Final = "RL001"
"""The SQLSTATE that `schema.sql` raises when another process has the lease."""
READ_ONLY: Final = "25006"
_NO_TABLES: Final = Meaning("missing", "relay's tables are not there: relay journal init makes them")
_PASSWORD: Final = Meaning("denied", "correct the secret that journal.dsn names, and restart relay")
MEANINGS: Final[Mapping[str, Meaning]] = {
    TAKEN: Meaning("taken", ""),
    "55P03": Meaning("busy", "another process holds the lock"),
    "53100": Meaning("full", "free some space on the server's disk"),
    "53300": Meaning("busy", "raise max_connections of the server, or put a pooler in front of it"),
    "28P01": _PASSWORD,
    "28000": Meaning("denied", "see pg_hba.conf of the server"),
    "42501": Meaning("denied", "grant the role what relay journal init --sql lists"),
    "3F000": _NO_TABLES,
    "42P01": _NO_TABLES,
    "42883": _NO_TABLES,
    READ_ONLY: Meaning(
        "", "the server is a standby: set target_session_attrs=read-write in journal.dsn, and name all servers"
    ),
}
"""By SQLSTATE."""


@contextmanager
def convert_errors() -> Iterator[None]:
    """Raise as Unavailable what goes wrong with the server in the body."""
    try:
        yield
    except psycopg.Error as error:
        raise make_unavailable(error) from error


def make_unavailable(error: psycopg.Error) -> Unavailable:
    """Describe an error in the server's own words, with what to do."""
    meaning = MEANINGS.get(error.sqlstate or "", Meaning("", ""))
    said = error.diag.message_primary or " ".join(str(error).split())
    return Unavailable("; ".join(filter(None, [f"PostgreSQL: {said}", meaning.advice])), meaning.reason)


def is_useless(error: psycopg.Error) -> bool:
    """Return whether a connection with this error is to be closed, because another server may do better."""
    return error.sqlstate == READ_ONLY
