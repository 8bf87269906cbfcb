"""The engine of the store. Only this module knows which engine that is."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from relay.api import StoreError, Stores
from relay.config import JournalSettings
from relay.journal import read_holder
from relay.state import EmbeddedStores, StateFolder
from relay.store import Store, Unavailable

if TYPE_CHECKING:
    from relay.postgres import Observation


def open_store(folder: Path, settings: JournalSettings) -> Store:
    """Return the store of a state folder, or in PostgreSQL. Opens no partition. Raises Unavailable."""
    if settings.backend == "postgres":
        from relay.postgres import PostgresStore  # late: the driver is optional

        return PostgresStore(settings, folder)
    return StateFolder(folder, settings.path)


def find_holder(folder: Path) -> int | None:
    """Return the process that has locked a state folder, whether it listens or not; None if it is unknown."""
    with suppress(OSError):
        return read_holder(folder)
    return None


def view_plugin_stores(folder: Path, settings: JournalSettings) -> Stores:
    """Return the stores of the connectors, for commands of plugins. Raises StoreError if the dsn cannot be read."""
    if settings.backend == "postgres":
        from relay.postgres import TableStores, find_database

        try:
            return TableStores(find_database(settings))
        except Unavailable as error:
            raise StoreError(str(error)) from error
    return EmbeddedStores(folder)


@contextmanager
def use_plugin_stores(folder: Path, settings: JournalSettings) -> Iterator[Stores]:
    """Lend the stores of the connectors to a daemon. Raises Unavailable if the dsn cannot be read."""
    if settings.backend == "postgres":
        from relay.postgres import TableStores, find_database

        with closing(find_database(settings)) as database:
            yield TableStores(database)
    else:
        yield EmbeddedStores(folder)


def make_tables(settings: JournalSettings, folder: Path) -> tuple[str, str]:
    """Make the tables of a journal in PostgreSQL; return a sentence with what was made, or "". Raises Unavailable.

    The second text is a warning: the node of the state folder `folder` has worked with other tables; "": it has not.
    """
    from relay.postgres import Cluster, KnownCluster, find_database, make_tables

    with closing(find_database(settings)) as database:
        with database.use() as db:
            made = make_tables(db, settings.partitions)
        try:
            return made, KnownCluster(Cluster(database), folder).describe_other()
        except Unavailable:  # whoever makes tables may not be allowed to read the state folder
            return made, ""


def make_tables_sql(settings: JournalSettings) -> str:
    """Return the SQL that makes the tables of a journal in PostgreSQL. Raises Unavailable if its dsn cannot be read."""
    from relay.postgres import find_database, make_sql

    database = find_database(settings)
    return make_sql(database.schema, settings.partitions, database.role)


def observe_database(
    settings: JournalSettings, folder: Path | None = None, runs: int | None = None
) -> Sequence["Observation"]:
    """Look at the database of a journal in PostgreSQL. Raises Unavailable.

    `folder`: the state folder of a node, to look for what its start would refuse. `runs`: the process of its
    relay, if that runs; 0 if it is unknown.
    """
    from relay.postgres import find_database, observe

    with closing(find_database(settings)) as database:
        return [*observe(database, settings, folder, runs)]
