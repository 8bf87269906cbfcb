"""A connector's store that kills itself before a given step: in plain writes, or while an older database is taken over.
Run as a program, see self_kill.py; an order says which of the two."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from fault_points import Steps
from self_kill import obey

from relay.api import Connector, ConnectorSettings
from relay.state.plugin_store import StoreFile
from relay_plugins.braze_cohorts import older_database

WRITES, KEYS = 4, 30
TARGET = "https://braze"
write_line = os.write


async def write(folder: Path) -> None:
    """Write groups of keys, each in place of the group before, and note each group that is written."""
    acknowledged = os.open(folder / "acknowledged", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    store = StoreFile(folder, "crm", "mine")
    for group in range(WRITES):
        keys = [b"%d/%d" % (group - 1, key) for key in range(KEYS)]
        await store.write({b"%d/%d" % (group, key): b"x" * 1000 for key in range(KEYS)}, keys)
        write_line(acknowledged, b"%d\n" % group)
    await store.purge()
    await store.close()


async def take_over(folder: Path) -> None:
    """Take over the database of an older relay, in small portions."""
    vars(older_database)["ROWS"] = 20
    store, connector = (
        StoreFile(folder, "braze_cohorts", "braze"),
        Connector("it", ConnectorSettings(type="it"), folder=folder),
    )
    path = older_database.find_older_database(folder, "braze")
    await older_database.take_over(path, store, TARGET, connector.run_blocking)
    await connector.release()
    await store.close()


def child(order: dict[str, Any]) -> None:
    sys.stdout = sys.stderr
    folder = Path(order["folder"])
    log = os.open(folder / "steps", os.O_WRONLY | os.O_TRUNC | os.O_CREAT)
    Steps(order["die_at"], None, log).watch()
    asyncio.run(take_over(folder) if order["takes_over"] else write(folder))


if __name__ == "__main__":
    obey(child)
