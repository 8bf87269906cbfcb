"""Signs of life for systemd, given only while what does the work gets on.

Every BEAT_S the journal's writer is asked for an answer, and so is all that deliveries wait for inside relay: reads of
the journal, the database. That the event loop turns shows in the question being asked at all. If an answer does not
come, because a disk hangs or something blocks the loop, the signs of life stop, and systemd ends relay and starts it
again. Idle is not stuck: an idle writer answers at once. Nor is a destination that is slow or dead: nobody asks it.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

import structlog

from relay.deliver import Fleet
from relay.journal import Journal
from relay.runtime.systemd import Notify
from relay.words import counted

BEAT_S: Final = 5.0
TURN_S: Final = 1.0
PATIENCE_S: Final = 15.0
ADVICE: Final = "look at its disk; systemd gets no sign of life until there is an answer, and then restarts relay"
log = structlog.stdlib.get_logger()


class Pulse:
    """Asks, and tells systemd."""

    def __init__(self, notify: Notify, journal: Journal, fleet: Fleet) -> None:
        self._notify, self._journal, self._fleet = notify, journal, fleet
        self._asked = {"the journal's writer": journal.await_writer, "what deliveries wait for": fleet.answers}
        self.others = 0
        """Events that workers accepted that are no longer wanted."""
        self._beat, self._patience = BEAT_S, PATIENCE_S
        if notify.watchdog:
            self._beat, self._patience = min(BEAT_S, notify.watchdog / 4), notify.watchdog / 2

    async def run(self) -> None:
        """Say that relay is ready, and then that it is alive, until cancelled."""
        await self._notify.ready(self.status())
        while self._notify.listens:
            if stuck := await self._stuck():
                status = f"stuck: {stuck} has not answered for {self._patience:g} s"
                log.error("relay is stuck", reason=status, advice=ADVICE)
                await self._notify.stuck(status)
            else:
                await self._notify.alive(self.status())
                await asyncio.sleep(self._beat)

    async def _stuck(self) -> str | None:
        """What does not answer."""
        for name, answers in self._asked.items():
            try:
                async with asyncio.timeout(self._patience):
                    await answers()
            except TimeoutError:
                return name
        return None

    def status(self) -> str:
        """How things are, in one sentence."""
        head = self._journal.head
        pending = {lane.name: lane.cursor.make_ledger(head).pending for lane in self._fleet.lanes}
        return sentence(head + self.others, pending, self._journal.refusing)


async def keep_turning(notify: Notify) -> None:
    """Say again and again that the event loop turns, until cancelled: what waits for a disk does not hold this up."""
    while True:
        await notify.turns()
        await asyncio.sleep(TURN_S)


def sentence(events: int, pending: Mapping[str, int], refusing: str | None) -> str:
    """How things are: events accepted, what is pending at each connector, and why senders are refused if they are."""
    slowest = max(pending, key=lambda name: pending[name], default=None)
    parts = [f"{counted(events, 'event')} accepted", counted(len(pending), "connector")]
    if slowest is not None:
        parts.append(f"slowest {slowest}: {pending[slowest]:,} pending" if pending[slowest] else "nothing pending")
    if refusing:
        parts.append(f"senders are refused: {refusing}")
    return ", ".join(parts)
