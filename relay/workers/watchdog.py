"""Signs of life of a supervisor for systemd.

Each worker reports to the supervisor, which kills and restarts a silent worker. That is no reason for systemd to end
all of them. The supervisor's signs stop only if that did not help: a running worker is silent for much longer than it
may be.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from relay.runtime import ADVICE, BEAT_S, describe_flow
from relay.status import Status
from relay.systemd import Notify
from relay.words import format_count
from relay.workers.control import JointView
from relay.workers.respawn import Supervised

SILENT: Final = 3.0
"""Factor of systemd's patience. A worker is killed after once that patience."""
log = structlog.stdlib.get_logger()


class JointPulse:
    """Checks the workers, and notifies systemd."""

    def __init__(self, notify: Notify, view: JointView, workers: Sequence[Supervised]) -> None:
        self._notify, self._view, self._workers = notify, view, workers
        self._beat = min(BEAT_S, notify.watchdog / 4) if notify.watchdog else BEAT_S
        self._silence = SILENT * notify.watchdog if notify.watchdog else float("inf")
        self._said = "starting"

    async def run(self) -> None:
        """Report that all workers are ready, and then that they are alive, until cancelled.

        Without systemd the workers are asked all the same: counts of a killed worker since the last question are lost.
        """
        await self._notify.report_ready(await self._describe_status())
        while True:
            if stuck := [one.worker.number for one in self._workers if one.is_silent(self._silence)]:
                status = f"stuck: no sign of life from worker {stuck[0]} for {self._silence:g} s"
                log.error("relay is stuck", reason=status, advice=ADVICE)
                await self._notify.report_stuck(status)
            else:
                await self._notify.report_alive(await self._describe_status())
            await asyncio.sleep(self._beat)

    async def _describe_status(self) -> str:
        """Describe the state in one sentence; return the last one if that takes too long."""
        try:
            async with asyncio.timeout(self._beat):
                status = await self._view.status(own=bool(self._view.store.shared_partitions))
            self._said = describe_workers(status)
            if (announced := await self._view.announcer.choose(status)) is not None:
                self._view.watch.check(announced)
        except TimeoutError:
            pass
        except Exception as bug:  # nothing that workers say ends all of them
            log.error("the status of the workers cannot be reported", exc_info=bug)
        return self._said


def describe_workers(status: Status) -> str:
    """Describe all workers in one sentence."""
    pending = {lane.connector: lane.pending for lane in status.lanes}
    away = [f"worker {one.worker} is away" for one in status.workers if one.away]
    workers = format_count(len(status.workers), "worker")
    return ", ".join([describe_flow(status.journal.head, pending, status.journal.refusing), workers, *away])
