"""The connector type `postgres`: events as rows of a table in PostgreSQL."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final
from urllib.parse import parse_qsl

from pydantic import AfterValidator

from relay.api import (
    DELIVERED,
    Batch,
    Connector,
    ConnectorSettings,
    Contradiction,
    Outcome,
    Reject,
    Retry,
    Secret,
    Skipped,
    Unauthorized,
    User,
)

if TYPE_CHECKING:
    import asyncpg

LONGEST_NAME: Final = 63
"""Bytes of a name that PostgreSQL keeps. PostgreSQL cuts a longer name off."""
SCHEMES: Final = ("postgresql://", "postgres://")
CLOSE_S: Final = 1.0
"""Seconds to tell the server that a statement is not wanted any more."""
PROBE_S: Final = 5.0
ROOT: Final = "~/.postgresql/root.crt"
"""Where the driver looks for the certificate of an authority without `sslrootcert`."""
UNKNOWN: Final = Skipped("relay knows no id of the user that is in the table: user id, external id or device id")


def check_name(name: str) -> str:
    """Return the name of a table. Raises ValueError if it is neither `table` nor `schema.table`."""
    parts = name.split(".")
    if len(parts) > 2 or not all(part and part.isprintable() for part in parts):
        raise ValueError(f"expected the name of a table, such as events or analytics.events, got {name!r}")
    if long := next((part for part in parts if len(part.encode()) > LONGEST_NAME), ""):
        raise ValueError(f"a name in PostgreSQL has at most {LONGEST_NAME} bytes, got {long!r}")
    return name


class Postgres(Connector, type="postgres", batch={"age": "250ms"}):
    """Stores events as rows of a table in PostgreSQL, each event once.

    relay sends a batch as one statement. An id that the table has already stays as it is, so an event that relay sends
    again is there once.
    """

    requires: ClassVar[Mapping[str, str]] = {"asyncpg": "currents-relay[postgres]"}

    class Settings(ConnectorSettings):
        """The database and the table."""

        dsn: Secret
        """Reference to the URL of the database, such as `postgresql://relay:PASSWORD@db1:5432/analytics`. Parameters
        such as `?sslmode=verify-full&sslrootcert=/etc/relay/tls/db.pem` follow it."""
        table: Annotated[str, AfterValidator(check_name)] = "events"
        """The table, also with its schema: `"analytics.events"`. Upper and lower case differ. `relay postgres create`
        makes the table."""

        def contradictions(self) -> Iterator[Contradiction]:
            """Yield a dsn that is no URL, or that names no certificate of the authority to verify the server by."""
            yield from super().contradictions()
            if self.dsn.problem:
                return
            if not self.dsn.reveal().startswith(SCHEMES):
                yield "dsn", "dsn: expected a URL such as postgresql://relay:PASSWORD@db1:5432/analytics"
            elif _lacks_authority(self.dsn.reveal()):
                yield "dsn", "dsn: sslmode verifies the server: add sslrootcert=FILE, with the authority's certificate"

    settings: Settings

    def __init__(self, name: str, settings: Settings, *, folder: Path) -> None:
        super().__init__(name, settings, folder=folder)
        from relay_plugins.postgres.table import make_delete, make_insert  # a relay without the type needs no SQL

        self._insert, self._delete = make_insert(settings.table), make_delete(settings.table)
        self._idle: list[asyncpg.Connection[Any]] = []

    async def open(self) -> None:
        """Load the driver. A delivery connects."""
        import asyncpg  # noqa: F401

    async def probe(self) -> str:
        """Connect, and have the server plan the statement of a batch. Raises `Retry`, `Unauthorized`."""
        from relay_plugins.postgres.table import COLUMNS

        try:
            async with asyncio.timeout(PROBE_S), self._connect() as database:
                await database.fetch(f"EXPLAIN {self._insert}", *([] for _ in COLUMNS))
                if await database.fetchval("SHOW transaction_read_only") == "on":
                    raise Retry("PostgreSQL is read-only: a standby, or default_transaction_read_only is on")
                version = await database.fetchval("SHOW server_version")
        except TimeoutError:
            raise Retry(f"PostgreSQL has not answered within {PROBE_S:g} s") from None
        finally:
            await self.close()  # nobody else does, if the connector is not open
        return f"PostgreSQL {version} takes events into the table {self.settings.table}"

    async def deliver(self, batch: Batch) -> None:
        """Store the batch by one statement. Raises `Retry`, `Reject`, `Unauthorized`, UnreadableEvent."""
        from relay_plugins.postgres.table import make_rows

        rows = make_rows(batch)
        async with self._connect() as database:
            await database.execute(self._insert, *rows)

    async def erase(self, users: Sequence[User]) -> list[Outcome]:
        """Delete the rows of the users, and rows of their devices that name no user."""
        devices = [[other.id for other in user.other_ids if other.kind == "device_id"] for user in users]
        user_ids = [user.user_id for user in users if user.user_id]
        external_ids = [one for user in users for one in user.external_ids]
        device_ids = [one for some in devices for one in some]
        if user_ids or external_ids or device_ids:
            async with self._connect() as database:
                await database.execute(self._delete, user_ids, external_ids, device_ids)
        return [
            DELIVERED if user.user_id or user.external_ids or own else UNKNOWN
            for user, own in zip(users, devices, strict=True)
        ]

    async def close(self) -> None:
        """Close the connections that are idle."""
        while self._idle:
            await _close(self._idle.pop())

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator["asyncpg.Connection[Any]"]:
        """Lend a connection: an idle one, or a new one. Raises `Retry`, `Reject`, `Unauthorized` for what the body
        raises.

        A connection is idle again after a success, or after a refusal of the batch. All others are closed: their state
        is unknown, or another server of the dsn may do better.
        """
        import asyncpg

        from relay_plugins.postgres.refusal import read_error

        database = None
        try:
            while self._idle and (database := self._idle.pop()).is_closed():
                database = None
            database = database or await self._open_connection()
            yield database
        except BaseException as error:
            outcome = read_error(error) if isinstance(error, asyncpg.PostgresError) else None
            if database is not None:
                await (self._give_back if isinstance(outcome, Reject) else _close)(database)
            if isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError):
                outcome = Retry(f"PostgreSQL: {error}")
            if outcome is None:
                raise
            raise outcome from None
        else:
            await self._give_back(database)

    async def _open_connection(self) -> "asyncpg.Connection[Any]":
        """Connect. No statement is prepared by name: a pooler in transaction mode may stand between."""
        import asyncpg

        try:
            return await asyncpg.connect(
                self.settings.dsn.reveal(),
                timeout=self.settings.timeout,
                statement_cache_size=0,
                server_settings={"application_name": f"relay {self.name}"},
            )
        except TimeoutError:
            raise Retry(f"PostgreSQL has not answered within {self.settings.timeout:g} s") from None
        except ValueError:  # its text may repeat a part of the password
            raise Unauthorized("dsn: the URL cannot be used: its host, its port or one of its parameters") from None

    async def _give_back(self, database: "asyncpg.Connection[Any]") -> None:
        if not database.is_closed():
            self._idle.append(database)


def _lacks_authority(dsn: str) -> bool:
    """Return whether the driver would verify the server, and has no certificate of an authority (PostgreSQL docs,
    libpq, sslrootcert)."""
    given = dict(parse_qsl(dsn.partition("?")[2]))
    has = "sslrootcert" in given or "PGSSLROOTCERT" in os.environ
    default = Path(os.path.expanduser(ROOT))  # noqa: PTH111  expanduser of a Path raises if there is no home
    return given.get("sslmode", "").startswith("verify-") and not has and not default.exists()


async def _close(database: "asyncpg.Connection[Any]") -> None:
    """Close a connection. A statement that still runs is cancelled, if the server answers in time."""
    with suppress(Exception):
        await database.close(timeout=CLOSE_S)
