"""Signs of life of a supervisor for systemd.

Each worker gives its own to the supervisor, which kills and restarts one that gives none: that is no reason for systemd
to end all of them. They stop only if that has not helped: a worker that runs is silent for much longer than it may.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from relay.runtime import ADVICE, BEAT_S, Notify, sentence
from relay.status import Status
from relay.words import counted
from relay.workers.control import JointView
from relay.workers.respawn import Supervised

SILENT: Final = 3.0
"""In terms of systemd's patience: after once, a worker is killed."""
log = structlog.stdlib.get_logger()


class JointPulse:
    """Looks at the workers, and tells systemd."""

    def __init__(self, notify: Notify, view: JointView, workers: Sequence[Supervised]) -> None:
        self._notify, self._view, self._workers = notify, view, workers
        self._beat = min(BEAT_S, notify.watchdog / 4) if notify.watchdog else BEAT_S
        self._silence = SILENT * notify.watchdog if notify.watchdog else float("inf")
        self._said = "starting"

    async def run(self) -> None:
        """Say that all workers are ready, and then that they are alive, until cancelled. Where nobody listens they are
        asked all the same: what one has counted since is lost when it is killed."""
        await self._notify.ready(await self._status())
        while True:
            if stuck := [one.worker.number for one in self._workers if one.is_silent(self._silence)]:
                status = f"stuck: no sign of life from worker {stuck[0]} for {self._silence:g} s"
                log.error("relay is stuck", reason=status, advice=ADVICE)
                await self._notify.stuck(status)
            else:
                await self._notify.alive(await self._status())
            await asyncio.sleep(self._beat)

    async def _status(self) -> str:
        """How things are, in one sentence; as they were if that takes too long."""
        try:
            async with asyncio.timeout(self._beat):
                status = await self._view.status()
            self._said = said_of(status)
            self._view.watch.look(status)
        except TimeoutError:
            pass
        except Exception as bug:  # nothing that workers say ends all of them
            log.error("the status of the workers cannot be told", exc_info=bug)
        return self._said


def said_of(status: Status) -> str:
    """All workers in one sentence."""
    pending = {lane.connector: lane.pending for lane in status.lanes}
    away = [f"worker {one.worker} is away" for one in status.workers if one.away]
    workers = counted(len(status.workers), "worker")
    return ", ".join([sentence(status.journal.head, pending, status.journal.refusing), workers, *away])
