"""The errors of PostgreSQL, in words for an admin."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NamedTuple
from uuid import UUID

import psycopg

from relay.store import Unavailable, UnavailableReason


class Meaning(NamedTuple):
    """What an error of the server means to relay, and what an admin can do."""

    reason: UnavailableReason
    advice: str


class OtherCluster(psycopg.DatabaseError):
    """Raised when the tables are those of another cluster than the one that this process works with."""

    def __init__(self, schema: str, found: UUID, known: UUID | None) -> None:
        super().__init__(f"the schema {schema} holds cluster {found}, and this node has worked with cluster {known}")


TAKEN: Final = "RL001"
"""The SQLSTATE that `schema.sql` raises when another process has the lease."""
READ_ONLY: Final = "25006"
BY_SYSTEMD: Final = "systemd starts relay again until the server answers (Restart= of relay.service)"
BY_HAND: Final = "start relay again once the server answers"
NO_TABLES: Final = Meaning(
    "missing",
    "if relay's tables are elsewhere, correct dbname in journal.dsn, or journal.schema; if they ever were there,"
    " restore them; else run relay journal init, which makes them, empty",
)
OTHER_CLUSTER: Final = (
    "stop all relays and restore the old tables, or correct journal.dsn and journal.schema;"
    " to begin with the tables that are there, relay accept journal on each node, and restart relay"
)
"""What to do about the tables of another cluster than the known one."""
_NETWORK: Final = Meaning("", "look at the network and the firewalls between this machine and the server")
_NO_CONNECTIONS: Final = Meaning("busy", "raise max_connections of the server, or put a pooler in front of it")
_STANDBY: Final = Meaning(
    "", "the server is a standby: set target_session_attrs=read-write in journal.dsn, and name all servers"
)
_UNKNOWN_TO_POOLER: Final = Meaning(
    "denied", "correct dbname in journal.dsn, or name this database in the configuration of the pooler"
)
MEANINGS: Final[Mapping[str, Meaning]] = {
    TAKEN: Meaning("taken", ""),
    "RL004": Meaning("busy", "relay tries again"),
    "25P03": Meaning("busy", "relay stood still in the middle of a transaction, and tries again"),
    "55P03": Meaning("busy", "another process holds the lock"),
    "53100": Meaning("full", "free some space on the server's disk"),
    "53300": _NO_CONNECTIONS,
    "42501": Meaning(
        "denied", "see relay check --probe: the role is to own the tables, as relay journal init --sql makes them"
    ),
    "3F000": NO_TABLES,
    "42P01": NO_TABLES,
    "42883": NO_TABLES,
    READ_ONLY: _STANDBY,
}
"""By SQLSTATE."""
REFUSALS: Final[Mapping[str, Meaning]] = {
    "session is read-only": _STANDBY,
    "in hot standby mode": _STANDBY,
    "password authentication failed": Meaning("denied", "correct the secret that journal.dsn names, and restart relay"),
    "no password supplied": Meaning("denied", "put the password into the secret of journal.dsn, or into its passfile"),
    "no pg_hba.conf entry": Meaning("denied", "add a line for this role and host to pg_hba.conf of the server"),
    "requires a valid client certificate": Meaning("denied", "set sslcert and sslkey in journal.dsn"),
    "certificate authentication failed": Meaning(
        "denied", "sslcert of journal.dsn needs the name of the role as its CN"
    ),
    "alert certificate expired": Meaning("denied", "renew the certificate that sslcert of journal.dsn names"),
    "alert unknown ca": Meaning("denied", "the server does not know who signed the certificate of sslcert"),
    "certificate verify failed": Meaning(
        "denied", "renew the server's certificate if it has ended, else set sslrootcert in journal.dsn to who signed it"
    ),
    "does not match host name": Meaning("denied", "use a host in journal.dsn that the server's certificate names"),
    "has group or world access": Meaning("denied", "let only relay's user read that file"),
    "does not support SSL": Meaning("", "set ssl = on at the server"),
    "too many connections for role": Meaning(
        "busy", "end sessions of this role, or have an admin raise its CONNECTION LIMIT (ALTER ROLE)"
    ),
    "too many connections for database": Meaning(
        "busy", "end sessions of this database, or have an admin raise its CONNECTION LIMIT (ALTER DATABASE)"
    ),
    "too many c": _NO_CONNECTIONS,
    "remaining connection slots": _NO_CONNECTIONS,
    "no more connections allowed": Meaning("busy", "raise max_client_conn of the pooler"),
    "query_wait_timeout": Meaning(
        "busy", "the pooler has no connection to the server: raise its pool size, or start the server; its log says why"
    ),
    "no such database": _UNKNOWN_TO_POOLER,
    "bouncer config error": _UNKNOWN_TO_POOLER,
    "server_login_retry": Meaning("", "the pooler does not reach the server: see its log"),
    "is not permitted to log in": Meaning("denied", "have an admin of the database run ALTER ROLE ... LOGIN"),
    "is not currently accepting connections": Meaning(
        "denied", "have an admin run ALTER DATABASE ... ALLOW_CONNECTIONS true"
    ),
    "definition of service ": Meaning("denied", "correct service in journal.dsn, or the service file of libpq"),
    "root certificate file": Meaning("denied", "set sslrootcert in journal.dsn to a file that relay's user may read"),
    "permission denied for database": Meaning("denied", "have an admin run GRANT CONNECT ON DATABASE ... TO the role"),
    "certificate file": Meaning("denied", "set sslcert in journal.dsn to a certificate that relay's user may read"),
    "certificate present, but not private key": Meaning("denied", "set sslkey in journal.dsn to the key of sslcert"),
    "the database system is starting up": Meaning("", "wait until the server is ready: relay then goes on by itself"),
    "the database system is shutting down": Meaning("", "start the server again: relay then goes on by itself"),
    " holds cluster ": Meaning("", OTHER_CLUSTER),
    'role "': Meaning(
        "denied", "correct user in journal.dsn, or have an admin of the database run CREATE ROLE ... LOGIN"
    ),
    'database "': Meaning(
        "denied", "correct dbname in journal.dsn, or have an admin run CREATE DATABASE ... OWNER ..."
    ),
    "resolve host": Meaning("", "correct host in journal.dsn, or look at the DNS of this machine"),
    "translate host name": Meaning("", "correct host in journal.dsn, or look at the DNS of this machine"),
    "Connection refused": Meaning("", "start the server, or correct host and port in journal.dsn"),
    "Is the server running locally": Meaning("", "start the server, or set host in journal.dsn to its address"),
    "timeout expired": _NETWORK,
    "No route to host": _NETWORK,
    "Network is unreachable": _NETWORK,
}
"""By words of the error, the one that says most first: several servers may fail each in its way. A connection that is
refused has no SQLSTATE."""
_ATTEMPT: Final = re.compile(r"(- host: .*?: )?connection failed: ")


@contextmanager
def convert_errors() -> Iterator[None]:
    """Raise as Unavailable what goes wrong with the server in the body."""
    try:
        yield
    except psycopg.Error as error:
        raise make_unavailable(error) from error


@contextmanager
def advise_on_restart() -> Iterator[None]:
    """Add to an error of the body what starts relay again, if the server is away. Raises Unavailable."""
    try:
        yield
    except Unavailable as error:
        cause = error.__cause__
        if error.reason == "denied" or not (isinstance(cause, psycopg.Error) and is_outage(cause)):
            raise
        raise Unavailable(f"{error}; {BY_SYSTEMD if 'INVOCATION_ID' in os.environ else BY_HAND}") from error


def make_unavailable(error: psycopg.Error) -> Unavailable:
    """Describe an error in the server's own words, with what to do."""
    said = error.diag.message_primary or _describe_refusal(str(error))
    meaning = MEANINGS.get(error.sqlstate or "") or _find_refusal(said)
    return Unavailable("; ".join(filter(None, [f"PostgreSQL: {said}", meaning.advice])), meaning.reason)


def _describe_refusal(said: str) -> str:
    """Return the errors of all servers that were tried, in one line."""
    _, _, attempts = said.rpartition("All failures were:")
    lines = (" ".join(line.split()) for line in _ATTEMPT.sub("", attempts).splitlines())
    return "; ".join(filter(None, lines))


def _find_refusal(said: str) -> Meaning:
    return next((meaning for words, meaning in REFUSALS.items() if words in said), Meaning("", ""))


def is_outage(error: psycopg.Error) -> bool:
    """Return whether the server does not answer, or takes no connections."""
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate.startswith(("08", "57P", "53300", READ_ONLY))


def is_loss(error: psycopg.Error) -> bool:
    """Return whether the tables of the cluster are not there. A segment's table may go at any time, and is none of
    them."""
    is_missing = MEANINGS.get(error.sqlstate or "") is NO_TABLES and ".block_" not in str(error)
    return is_missing or isinstance(error, OtherCluster)


def is_useless(error: psycopg.Error) -> bool:
    """Return whether a connection with this error is to be closed, because another server may do better."""
    return error.sqlstate == READ_ONLY
