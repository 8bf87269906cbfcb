"""A journal and a lane that kill themselves before a given step. Run as a program, see self_kill.py; an order also says
whether to send anything or only to go on, and may name the step instead of its number."""

import asyncio
import os
import signal
import sqlite3
import sys
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import orjson
from self_kill import obey

from relay.api import Batch, Connector, Kind, Reject
from relay.config.model import Config, Configured
from relay.deliver import fleet
from relay.deliver.fleet import Fleet
from relay.journal.journal import Journal
from relay.state.open_folder import open_both
from relay.store import ParkedQuery
from relay.store.log import JournalLimits
from tests.parked import list_parked, mark_parked

KIND = Kind("braze", "users.messages.email.Open")
WINDOW, GROUPS, EVENTS, BYTES = 20, 9, 5, 70_000
write_line = os.write


class Steps:
    """Counts what touches the disk, and dies before one of it, or in the middle of a write."""

    def __init__(self, die_at: int, die_before: str | None, log: int) -> None:
        self.numbers, self.die_at, self.die_before, self.log = count(1), die_at, die_before, log

    def __call__(self, name: str) -> None:
        write_line(self.log, f"{name}\n".encode())
        if next(self.numbers) == self.die_at or name == self.die_before:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        for name in ("fdatasync", "fsync", "posix_fallocate", "ftruncate", "unlink"):
            setattr(os, name, self.before(name, getattr(os, name)))
        os.pwritev, os.pwrite = self._torn("pwritev", os.pwritev), self._torn("pwrite", os.pwrite)
        step = self

        class Database(sqlite3.Connection):
            def execute(self, query: str, *values: Any) -> sqlite3.Cursor:
                step(f"sql {' '.join(query.split()[:3])}")
                return super().execute(query, *values)

            def executemany(self, query: str, *values: Any) -> sqlite3.Cursor:
                step(f"sql {' '.join(query.split()[:3])}")
                return super().executemany(query, *values)

            def executescript(self, script: str) -> sqlite3.Cursor:
                step("sql script")
                return super().executescript(script)

        connect = sqlite3.connect
        sqlite3.connect = lambda *given, **named: connect(*given, **named, factory=Database)  # type: ignore[assignment]

    def before(self, name: str, real: Any) -> Any:
        def stepped(*given: Any, **named: Any) -> Any:
            self(name)
            return real(*given, **named)

        return stepped

    def _torn(self, name: str, real: Any) -> Any:
        """A write has two steps: before it, and when half of it is done."""

        def stepped(fd: int, data: Any, at: int) -> Any:
            self(name)
            whole = b"".join(data) if name == "pwritev" else data
            os_write(fd, whole[: len(whole) // 2], at)
            self(f"{name}, half")
            return real(fd, data, at)

        os_write = os.pwrite if name == "pwrite" else PWRITE
        return stepped


PWRITE = os.pwrite


class Target(Connector, type="target"):
    """Writes down what it gets; refuses poison until it is told not to."""

    delivered: int
    strict = True

    async def deliver(self, batch: Batch) -> None:
        if self.strict and any(b"poison" in body for body in batch.bodies()):
            raise Reject("HTTP 400: poison")
        await asyncio.sleep(0.002)
        for event in batch:
            write_line(self.delivered, f"{event.id}\n".encode())


def configuration() -> Config:
    table = {"batch": {"events": 3, "age": "0ms"}, "window": WINDOW, "concurrency": 2}
    made = Target.Settings.model_validate({"type": "target"} | table)
    return Config(
        connectors={"it": Configured("it", Target, made)},  # type: ignore[arg-type]
    )


async def scenario(folder: Path, *, sends: bool, compress: bool) -> None:
    """Groups that fill segments, a lane that delivers, parks, and is asked to deliver what it parked once more."""
    limits = JournalLimits(16 << 20, 0.0, compress=compress)
    journal, state = open_both(folder, folder / "journal", 0, limits, 1 << 20)
    lanes = Fleet(journal, state, folder)
    await lanes.open(configuration())
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        running = group.create_task(lanes.run(), name="fleet")
        if sends:
            await send(folder, journal, lanes)
        Target.strict = False
        mark_parked(folder, ParkedQuery())
        while list_parked(folder) or lanes.lanes[0].cursor.position < journal.head:
            await asyncio.sleep(0.002)
        lanes.stop()
        await running
    await journal.close()
    state.close()


async def send(folder: Path, journal: Journal, lanes: Fleet) -> None:
    acknowledged = os.open(folder / "acknowledged", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for group in range(GROUPS):
        ids = [f"{group}-{number}" + ("-poison" if number == 2 and group % 2 else "") for number in range(EVENTS)]
        bodies = [orjson.dumps({"id": one, "filling": Random(one).randbytes(BYTES // 2).hex()}) for one in ids]
        await journal.append([KIND] * EVENTS, bodies)
        write_line(acknowledged, "".join(f"{one}\n" for one in ids).encode())
        await lanes.save()
        while group % 3 == 2 and lanes.lanes[0].cursor.position < journal.head:  # else the lane lags behind
            await asyncio.sleep(0.001)


def child(order: dict[str, Any]) -> None:
    sys.stdout = sys.stderr  # what is logged
    folder = Path(order["folder"])
    Target.delivered = os.open(folder / "delivered", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    log = os.open(folder / "steps", os.O_WRONLY | os.O_TRUNC | os.O_CREAT)
    steps = Steps(order["die_at"], order.get("die_before"), log)
    steps.watch()
    fleet.LOOK_S = 0.005
    asyncio.run(scenario(folder, sends=order.get("sends", True), compress=order["compress"]))


if __name__ == "__main__":
    obey(child)
