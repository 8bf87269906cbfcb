"""Signs of life for systemd, sent only while the working parts make progress.

Every BEAT_S the journal's writer must answer, and so must everything inside relay that deliveries wait for: reads of
the journal, the database. That the event loop turns shows in the question itself. If an answer does not come, because a
disk hangs or something blocks the loop, the signs of life stop, and systemd restarts relay. Idle is not stuck: an idle
writer answers at once. A slow or dead destination does not count.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import structlog

from relay.runtime.partitions import Partitions
from relay.store import Appender, Unavailable
from relay.systemd import Notify
from relay.words import format_count

BEAT_S: Final = 5.0
TURN_S: Final = 1.0
PATIENCE_S: Final = 15.0
ADVICE: Final = "look at its disk; systemd gets no sign of life until there is an answer, and then restarts relay"
log = structlog.stdlib.get_logger()


class Pulse:
    """Checks progress, and notifies systemd."""

    def __init__(self, notify: Notify, partitions: Partitions, events: Appender) -> None:
        """`events` is where this process puts events."""
        self._notify, self._partitions, self._events = notify, partitions, events
        self._asked = {"the journal's writer": self._await_commits, "what deliveries wait for": self._await_answers}
        self.others = 0
        """Events accepted by workers that no longer run."""
        self._beat, self._patience = BEAT_S, PATIENCE_S
        if notify.watchdog:
            self._beat, self._patience = min(BEAT_S, notify.watchdog / 4), notify.watchdog / 2

    async def run(self) -> None:
        """Report that relay is ready, and then that it is alive, until cancelled."""
        await self._notify.report_ready(self.describe_status())
        while self._notify.listens:
            for name, answers in self._asked.items():
                try:
                    async with asyncio.timeout(self._patience):
                        await answers()
                except TimeoutError:
                    status = f"stuck: {name} has not answered for {self._patience:g} s"
                    log.error("relay is stuck", reason=status, advice=ADVICE)
                    await self._notify.report_stuck(status)
                    break
            else:
                await self._notify.report_alive(self.describe_status())
                await asyncio.sleep(self._beat)

    async def _await_commits(self) -> None:
        for partition in self._partitions:
            await partition.journal.await_commit()

    async def _await_answers(self) -> None:
        for partition in self._partitions:
            with suppress(Unavailable):  # the partition is closed meanwhile
                await partition.fleet.wait_for_answers()

    def describe_status(self) -> str:
        """Describe the state in one sentence."""
        pending = Counter[str]()
        for partition in self._partitions:
            for lane in partition.fleet.lanes:
                pending[lane.name] += lane.cursor.make_ledger(partition.journal.head).pending
        head = sum(partition.journal.head for partition in self._partitions)
        return describe_flow(head + self.others, pending, self._events.refusing)


async def keep_reporting(notify: Notify) -> None:
    """Report that the event loop turns, until cancelled. A disk that hangs does not stop this."""
    while True:
        await notify.report_turning()
        await asyncio.sleep(TURN_S)


def describe_flow(events: int, pending: Mapping[str, int], refusing: str | None) -> str:
    """Describe accepted events, each connector's pending events, and why senders are refused."""
    slowest = max(pending, key=lambda name: pending[name], default=None)
    parts = [f"{format_count(events, 'event')} accepted", format_count(len(pending), "connector")]
    if slowest is not None:
        parts.append(f"slowest {slowest}: {pending[slowest]:,} pending" if pending[slowest] else "nothing pending")
    if refusing:
        parts.append(f"senders are refused: {refusing}")
    return ", ".join(parts)
