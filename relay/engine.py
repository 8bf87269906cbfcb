"""The engine of the store. Only this module knows which engine that is."""

from pathlib import Path

from relay.api import Stores
from relay.config import JournalSettings
from relay.state import EmbeddedStores, StateFolder
from relay.store import Store, Unavailable


def open_store(folder: Path, settings: JournalSettings) -> Store:
    """Return the store of a state folder. Opens no partition."""
    if settings.backend == "postgres":
        raise Unavailable('this relay cannot open a journal in PostgreSQL yet: set journal.backend = "embedded"')
    return StateFolder(folder, settings.path)


def view_plugin_stores(folder: Path) -> Stores:
    """Return the stores of the connectors of a state folder, for commands of plugins."""
    return EmbeddedStores(folder)
