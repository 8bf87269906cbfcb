"""An erasure that kills itself before a given step. Run as a program, see self_kill.py.

An order also says whether to make first what is to be erased."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from fault_points import Steps
from self_kill import obey

from relay.api import Batch, Connector, Kind, Reject, Retry, User
from relay.config.model import Config, Configured, ErasureSettings
from relay.deliver.fleet import Fleet
from relay.erasure import destinations as telling
from relay.erasure import eraser as erasing
from relay.erasure.eraser import Eraser
from relay.journal import compression
from relay.journal.journal import Journal
from relay.state.database import StateDatabase
from relay.state.erasure.table import FolderErasures
from relay.store.log import JournalLimits
from relay.testing import make_event
from tests.parked import list_parked

KIND = Kind("braze", "users.messages.email.Open")
USER, EXTERNAL = "5f3a9c0d11e2b4a6c7d8e9f0", "anna-4711"
GROUPS = 3
QUICK = {"retry": {"first": "1ms", "max": "1ms"}}
write_line = os.write


class Target(Connector, type="target"):
    """Refuses poison, accepts nothing else until it is told to, and writes down whom it has erased."""

    written: int
    accepts = False

    async def deliver(self, batch: Batch) -> None:
        if any(b"poison" in body for body in batch.bodies()):
            raise Reject(f"HTTP 400: poison of {EXTERNAL}")
        if not self.accepts:
            raise Retry("not now")
        for event in batch:
            write_line(self.written, f"{event.id}\n".encode())

    async def erase(self, users: Any) -> None:
        write_line(self.written, f"erased {[(user.user_id, *user.external_ids) for user in users]}\n".encode())


async def scenario(folder: Path, *, makes: bool, compress: bool) -> None:
    state = StateDatabase(folder)
    journal = Journal(folder / "journal", JournalLimits(16 << 20, 3600.0, compress=compress), 1 << 20)
    made = Target.Settings.model_validate(
        {"type": "target", "from": "oldest", "batch": {"events": 2}, "concurrency": 64} | QUICK
    )
    fleet = Fleet(journal, state, folder)
    eraser = Eraser(fleet, journal, state, ErasureSettings(after=0.0))
    await fleet.open(Config(connectors={"it": Configured("it", Target, made)}))  # type: ignore[arg-type]
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        running = group.create_task(fleet.run(), name="fleet")
        if makes:
            await make(journal, folder)
            await fleet.save()
        else:
            erase = group.create_task(eraser.run(), name="erase")
            while not FolderErasures(folder).read()[0].done:
                await asyncio.sleep(0.002)
            erase.cancel()
            Target.accepts = True
            while fleet.lanes[0].cursor.position < journal.head:
                await asyncio.sleep(0.002)
        fleet.stop()
        await running
    await journal.close()
    state.close()


async def make(journal: Journal, folder: Path) -> None:
    """Events of two users, of which one of each group is parked."""
    theirs = {"user_id": USER, "external_user_id": EXTERNAL}
    users = [theirs, {"user_id": "bert"}, {"external_user_id": EXTERNAL}, {"user_id": "bert"}]
    for _ in range(GROUPS):
        await journal.append([KIND] * 4, [make_event(user=user) for user in users])
        await journal.append([KIND] * 2, [make_event(user=user, poison=True) for user in users[:2]])
        journal._writer.seal(journal.head)
    while len(list_parked(folder)) < 2 * GROUPS:
        await asyncio.sleep(0.002)
    FolderErasures(folder).ask(User(USER))


class Writing(Steps):
    """Leaves out what only reads: how often that is done is a matter of time."""

    def __call__(self, name: str) -> None:
        if not name.startswith(("sql SELECT", "sql PRAGMA user", "sql PRAGMA data")):
            super().__call__(name)


def child(order: dict[str, Any]) -> None:
    sys.stdout = sys.stderr  # what is logged
    folder = Path(order["folder"])
    Target.written = os.open(folder / "delivered", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    log = os.open(folder / "steps", os.O_WRONLY | os.O_TRUNC | os.O_CREAT)
    steps = Writing(order["die_at"], order.get("die_before"), log)
    if not order.get("makes", False):
        steps.watch()
        os.replace = steps.before("replace", os.replace)
    erasing.LOOK_S = telling.LOOK_S = 0.005
    compression.LEAST_BYTES = 0
    asyncio.run(scenario(folder, makes=order.get("makes", False), compress=order["compress"]))


if __name__ == "__main__":
    obey(child)
