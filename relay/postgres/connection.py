"""Connections to PostgreSQL.

How they fail and recover:

- Each statement has a deadline. When the deadline is over, the connection is closed, and the server is told nothing:
  a cancel while COMMIT waits for a synchronous standby would make the transaction count as committed, on one machine.
  Whether the statement has done its work is unknown then.
- A lost connection is made anew with the next work.
- A process that stands still in the middle of a transaction, as after SIGSTOP, loses the connection after STILL_S. So
  its locks do not outlast its leases by more.
- Nothing depends on a session, so that a pooler in transaction mode may stand between: no prepared statements, no
  settings and locks that outlast a transaction.
"""

import select
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final, TypeVar
from uuid import UUID
from weakref import finalize

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

from relay.config import JournalSettings, read_words
from relay.postgres import text
from relay.postgres.error import OtherCluster, is_loss, is_outage, is_useless, make_unavailable
from relay.postgres.log.known_ends import KnownEnds
from relay.postgres.outage import Outage
from relay.store import Unavailable

RV = TypeVar("RV")
Values = Sequence[Any] | Mapping[str, Any] | None
DEADLINE_S: Final = 10.0
"""Seconds for a statement."""
LOOK_S: Final = 0.1
CREDENTIALS: Final = "/etc/relay/credentials"
"""The folder from which systemd loads credentials, by the convention of relay's unit."""
CONNECT: Final[Mapping[str, Any]] = {
    "client_encoding": "UTF8",
    "connect_timeout": 3,  # for each server of the dsn
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}
"""Settings of libpq that hold unless the dsn says otherwise."""
WAIT_FOR_STANDBY: Final = "SyncRepWaitForLSN"
"""The function of the server whose warnings tell that a commit is on one server alone. Their words depend on the
server's language."""
IDLE: Final = TransactionStatus.IDLE
KEPT: Final = 4
"""Connections that stay open for the next user."""
STILL_S: Final = 5.0
"""Seconds after which the server ends a transaction of a process that stands still within it. The process may hold
locks that others need, such as those of a lease."""
BEGIN: Final = f"BEGIN; SELECT set_config('idle_in_transaction_session_timeout', '{STILL_S:g}s', true);"
DURABLE: Final = f"""{BEGIN}
    SELECT set_config('synchronous_commit', 'on', true)
    WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply');
"""
QUICK: Final = f"{BEGIN} SELECT set_config('synchronous_commit', 'off', true);"


class Overdue(psycopg.OperationalError):
    """Raised when a statement has no answer within its deadline. It may have done its work."""


class Unconfirmed(Overdue):
    """Raised when somebody else has ended the wait of a commit for a standby. The commit is on one server alone."""


class PostgresConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection of one thread at a time, in autocommit. `$.` in a statement stands for the schema of relay."""

    schema = ""
    """The schema's name, quoted."""
    cluster: UUID | None = None
    """The cluster whose tables they have to be; None: any."""
    outage: Outage | None = None
    deadline_s = DEADLINE_S
    _unconfirmed = ""
    """What the server has said when a commit did not wait for its standby; "" if all commits have waited."""

    @property
    def is_over(self) -> bool:
        """Whether the server has said something unasked while the connection was idle: the server ends it."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def wait(self, gen: PQGen[RV], interval: float = LOOK_S, timeout: float | None = None) -> RV:
        """Run a step of the protocol. Raises Overdue after the deadline, and closes the connection then."""
        try:
            return super().wait(gen, interval, self.deadline_s if timeout is None else timeout)
        except psycopg.errors._WaitTimeout:  # noqa: SLF001  psycopg has no public name for the error
            self.pgconn.finish()
            said = f"the server has not answered within {self.deadline_s:g} s; the connection is closed"
            raise Overdue(said) from None

    def run(self, statement: str, values: Values = None, *, binary: bool = False) -> psycopg.Cursor[tuple[Any, ...]]:
        """Run a statement; return the cursor with its rows. Raises psycopg.Error.

        `binary`: whether the rows come in binary form, which is quicker for many bytes.
        """
        cursor = self.execute(_name_schema(statement, self.schema), values, binary=binary)
        if self._unconfirmed:
            self.close()
            raise Unconfirmed(self._unconfirmed)
        return cursor

    def run_many(self, statement: str, rows: Collection[Sequence[Any] | Mapping[str, Any]]) -> None:
        """Run a statement for each of these rows, without waiting in between. Raises psycopg.Error."""
        if rows:
            self.cursor().executemany(_name_schema(statement, self.schema), rows)

    @contextmanager
    def transaction_of(self, first: str = "", begin: str = DURABLE) -> Iterator[None]:
        """Run the body as one transaction. `first`: statements without values that go out with the beginning.

        The transaction is durable when the body has ended: the server syncs it whatever the role's settings say. With
        `begin=QUICK` a crash of the server may lose the transaction.
        """
        try:
            self.run(begin + first)
            yield
            self.run("COMMIT")
        except BaseException:
            if not self.closed:
                self.run("ROLLBACK")
            raise

    def note_warning(self, notice: psycopg.errors.Diagnostic) -> None:
        """Note that a cancel by an admin, or a timeout of the role, has ended the wait of a commit for its standby.

        The server says no more than that, and that the transaction has committed.
        """
        if notice.source_function == WAIT_FOR_STANDBY:
            self._unconfirmed = notice.message_primary or "a commit has not waited for its standby"

    def read_cluster(self) -> UUID:
        """Return the id of the cluster whose tables are there, which it got when it was made. Raises psycopg.Error."""
        row = self.run("SELECT id FROM $.cluster").fetchone()
        if row is None:  # in the middle of a restore
            raise psycopg.errors.UndefinedTable(f"the table cluster of the schema {self.schema} is empty")
        return UUID(str(row[0]))

    def note_commit(self) -> None:
        """Note that the server has answered to a commit that waits for standbys."""
        if self.outage is not None:
            self.outage.note_answer(is_commit=True)


class Database:
    """One schema of one database: how to connect to it."""

    def __init__(self, dsn: str, schema: str, name: str = "relay") -> None:
        """`name`: the application's name, which admins of the server see."""
        self._dsn, self._name = dsn, name
        self.schema = psycopg.sql.Identifier(schema).as_string()
        told = conninfo_to_dict(dsn)
        where = ", ".join(f"{key} {told[key]}" for key in ("host", "dbname", "user") if told.get(key))
        self.place = f"PostgreSQL ({', '.join(filter(None, [where, f'schema {schema}']))})"
        """Where the tables are, for messages, without secrets."""
        self.role = psycopg.sql.Identifier(read_words(dsn)["user"]).as_string()
        """The role that relay connects as, quoted."""
        self._settings = {key: value for key, value in CONNECT.items() if key not in told}
        self._free = deque[PostgresConnection]()
        finalize(self, _close_all, self._free)
        self.cluster: UUID | None = None
        """The cluster that this process works with; None: it has not met any yet."""
        self.outage: Outage | None = None
        """Who says that the database is away; None: nobody, each caller gets the errors and no more."""
        self.known_ends = KnownEnds()
        """How far this process knows the logs, whatever the database says when it comes back."""

    def connect(self) -> PostgresConnection:
        """Open a connection. Raises psycopg.Error."""
        connection = PostgresConnection.connect(
            self._dsn, autocommit=True, prepare_threshold=None, application_name=self._name, **self._settings
        )
        connection.schema, connection.cluster, connection.outage = self.schema, self.cluster, self.outage
        connection.add_notice_handler(connection.note_warning)
        text.register(connection)
        return connection

    @contextmanager
    def use(self) -> Iterator[PostgresConnection]:
        """Lend a connection to the body, which any thread may run. Raises Unavailable."""
        with self.watch(), self._lend() as connection:
            yield connection

    @contextmanager
    def _lend(self) -> Iterator[PostgresConnection]:
        connection = self._take()
        try:
            yield connection
        finally:
            if connection.info.transaction_status == IDLE and len(self._free) < KEPT:
                self._free.append(connection)
            else:
                connection.close()

    def check_cluster(self) -> None:
        """Check that the tables are those of this process's cluster. If not, nobody uses the database before a later
        check finds them. Raises Unavailable."""
        with self._note_answers(), self._lend() as db:
            self.recognise(db)
        if self.outage is not None:
            self.outage.note_tables()

    def recognise(self, db: PostgresConnection) -> None:
        """Check whose tables are there; at first, take part in their cluster. Raises OtherCluster, psycopg.Error."""
        found = db.read_cluster()
        if self.cluster is None:
            self.cluster = found
        elif found != self.cluster:
            raise OtherCluster(self.schema, found, self.cluster)

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Note whether the database answers in the body. Raises Unavailable."""
        if self.outage is not None:
            self.outage.check_tables()
        with self._note_answers():
            yield

    @contextmanager
    def _note_answers(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            unavailable = make_unavailable(error)
            if self.outage is not None and is_loss(error):
                self.outage.note_loss(unavailable)
            elif self.outage is not None and is_outage(error):
                self.outage.note_failure(unavailable, is_late=isinstance(error, Overdue))
            raise unavailable from error
        if self.outage is not None:
            self.outage.note_answer(is_commit=False)

    def _take(self) -> PostgresConnection:
        """Return a connection that nobody uses, once the server has answered on it; else a new connection."""
        while self._free:
            connection = self._free.pop()
            try:
                connection.execute("")
            except psycopg.OperationalError:
                connection.close()
                self.close()  # the others are as old, and each would cost the deadline
            else:
                return connection
        return self.connect()

    def close(self) -> None:
        """Close the connections that nobody uses."""
        _close_all(self._free)


def _close_all(connections: deque[PostgresConnection]) -> None:
    while connections:
        connections.pop().close()


def find_database(settings: JournalSettings) -> Database:
    """Return the database of a configuration. Raises Unavailable if its dsn cannot be read here."""
    if settings.dsn is None or settings.dsn.problem:
        said = f"journal.dsn: {settings.dsn.problem if settings.dsn else 'is missing'}"
        advice = f"; a command finds it with CREDENTIALS_DIRECTORY={CREDENTIALS}"
        is_credential = settings.dsn is not None and settings.dsn.how == "credential"
        raise Unavailable(f"{said}{advice if is_credential else ''}", "denied")
    return Database(settings.dsn.reveal(), settings.schema_name, f"relay {settings.node_name}")


class Lasting:
    """The connection of one thread. After a loss the next work connects anew."""

    def __init__(self, database: Database, deadline_s: float = DEADLINE_S) -> None:
        self._database, self._deadline_s = database, deadline_s
        self._connection: PostgresConnection | None = None

    @property
    def is_lost(self) -> bool:
        """Whether the connection has ended."""
        return self._connection is None or self._connection.closed

    @contextmanager
    def use(self) -> Iterator[PostgresConnection]:
        """Lend the connection to the body. Raises Unavailable."""
        with self._database.watch():
            if self._connection is None or self._connection.closed or self._connection.is_over:
                self.close()
                self._connection = self._database.connect()
                self._connection.deadline_s = self._deadline_s
            try:
                yield self._connection
            except psycopg.Error as error:
                if is_useless(error):
                    self._connection.close()
                raise

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()


def limit_wait(seconds: float) -> str:
    """Return the statement that ends each wait of its transaction for a lock after so long, with an error."""
    return f"SELECT set_config('lock_timeout', '{seconds:g}s', true);"


@lru_cache(4096)
def _name_schema(statement: str, schema: str) -> str:
    return statement.replace("$.", f"{schema}.")
