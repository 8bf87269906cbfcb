"""A worker that stays silent, although it was killed, ends the signs of life of all."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from relay.runtime.condition_watch import ConditionWatch
from relay.systemd import Notify
from relay.workers.watchdog import SILENT, JointPulse
from tests.toy_store.store import ToyStore
from tests.unit.status.statuses import a_status


class Worker:
    """Of which it is only to be known whether it is silent."""

    worker = type("Numbered", (), {"number": 1})

    def __init__(self) -> None:
        self.silent_s = 0.0

    def is_silent(self, seconds: float) -> bool:
        return self.silent_s > seconds


class Announcing:
    """Announces whatever is seen."""

    async def choose(self, own: Any) -> Any:
        return own


class View:
    def __init__(self) -> None:
        self.asked = 0
        self.watch, self.announcer = ConditionWatch(), Announcing()
        self.store = ToyStore()

    async def status(self, *, own: bool) -> Any:
        self.asked += 1
        return a_status()


async def test_workers_are_asked_what_they_have_counted_even_if_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.workers.watchdog.BEAT_S", 0.01)
    view = View()
    async with asyncio.TaskGroup() as group, asyncio.timeout(30):
        pulse = JointPulse(Notify({}), view, [])  # type: ignore[arg-type]
        beating = group.create_task(pulse.run(), name="signs of life")
        while view.asked < 3:
            await asyncio.sleep(0.01)
        beating.cancel()


async def test_systemd_hears_nothing_of_a_supervisor_that_cannot_mend_a_worker(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as it:
        it.bind(str(tmp_path / "notify"))
        it.setblocking(False)
        notify = Notify({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "40000"})
        worker = Worker()
        pulse = JointPulse(notify, View(), [worker])  # type: ignore[arg-type, list-item]

        async def hears(what: bytes) -> bytes:
            async with asyncio.timeout(30):
                while not (message := await asyncio.get_running_loop().sock_recv(it, 4096)).startswith(what):
                    pass
            return message

        async with asyncio.TaskGroup() as group:
            beating = group.create_task(pulse.run(), name="signs of life")
            assert b"STATUS=10 events accepted, 1 connector, nothing pending" in await hears(b"READY=1")
            await hears(b"WATCHDOG=1")
            worker.silent_s = SILENT * 0.04 + 0.01
            assert await hears(b"STATUS=stuck") == b"STATUS=stuck: no sign of life from worker 1 for 0.12 s"
            assert (await hears(b"")).startswith(b"STATUS=stuck")
            worker.silent_s = 0.0
            await hears(b"WATCHDOG=1")
            beating.cancel()
