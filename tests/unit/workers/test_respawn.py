"""A worker's process, of which a script takes the place: it dies, hangs, or cannot be started."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from relay.config.model import Config
from relay.runtime.process import StartError
from relay.runtime.worker import Worker
from relay.workers.respawn import RespawnTimes, Supervised

READY = """
import os, socket, time
out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
out.connect(os.environ["NOTIFY_SOCKET"])
out.send(b"READY=1")
"""
ONCE = """
import os, pathlib, signal, sys, time
first = pathlib.Path(__file__).with_name("first")
if not first.exists():
    first.touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


class Scene:
    """One supervised worker, and a script in its place."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.script = folder, folder / "worker.py"
        runner = folder / "python"
        runner.write_text(f"#!/bin/sh\nexec {sys.executable} {self.script}\n")
        runner.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(runner))
        monkeypatch.delenv("WATCHDOG_USEC", raising=False)
        self.supervise()

    def supervise(self, hang: float = 30.0) -> None:
        """Begin with a worker that has never run. `hang`: the silence that ends its process, in seconds."""
        worker = Worker(0, 1, str(self.folder / "rendezvous"), (), False, "{}")
        self.it = Supervised(worker, RespawnTimes(first_wait=0.01, check=0.02, hang=hang))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            running = group.create_task(self.it.run(Config, list), name="worker")
            while not condition():
                await asyncio.sleep(0.01)
            self.it.stop()
            await asyncio.wait([running])


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(tmp_path, monkeypatch)


async def test_one_that_is_killed_before_it_is_ready_is_started_again(scene: Scene) -> None:
    scene.script.write_text(ONCE + READY + "time.sleep(60)")
    await scene.until(scene.it.ready.is_set)


async def test_a_worker_that_cannot_start_the_first_time_ends_the_start(scene: Scene) -> None:
    scene.script.write_text("raise SystemExit(1)")
    with pytest.raises(StartError, match="worker 0 ended with exit code 1, see above"):
        await scene.it.run(Config, list)


async def test_one_that_hangs_is_killed_without_a_service_manager(scene: Scene) -> None:
    scene.supervise(hang=0.05)
    scene.script.write_text(READY + "time.sleep(60)")
    with capture_logs() as logs:
        await scene.until(lambda: any(line["event"] == "worker died, starts again" for line in logs))
    assert [line["event"] for line in logs][:2] == [
        "worker gives no sign of life, is killed",
        "worker died, starts again",
    ]


async def test_a_worker_with_only_loop_signs_is_killed_under_a_service_manager(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.script.write_text(READY + "while True:\n    out.send(b'X_LOOP=1')\n    time.sleep(0.01)")
    scene.supervise(hang=20.0)
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    with capture_logs() as logs:
        await scene.until(lambda: any(line["event"] == "worker died, starts again" for line in logs))
    assert scene.it.silence < 20
    monkeypatch.delenv("WATCHDOG_USEC")
    scene.supervise(hang=20.0)
    other = scene.it
    with capture_logs() as logs:
        await scene.until(lambda: other.ready.is_set() and other.is_silent(0.5))
    assert not logs


async def test_a_later_failure_to_start_a_worker_is_logged_and_retried(scene: Scene) -> None:
    scene.script.write_text(READY)
    runner = Path(sys.executable)

    def takes_away() -> bool:
        if scene.it.ready.is_set() and runner.exists():
            runner.rename(runner.with_name("elsewhere"))
        return any("cannot be started" in str(line.get("reason")) for line in logs)

    with capture_logs() as logs:
        await scene.until(takes_away)
    runner.with_name("elsewhere").rename(runner)
    runner.unlink()
    with pytest.raises(StartError, match="worker 0 cannot be started"):
        await Supervised(scene.it.worker).run(Config, list)
