"""Puts events aside as parked, trying until the state database takes them."""

import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

import structlog

from relay.api import Batch, Connector, Event, UnreadableEvent
from relay.config import Redaction
from relay.deliver.destination import SharedDestination
from relay.deliver.result import Verdict
from relay.guests import encodable, quick, trace_of
from relay.route import Failed
from relay.state import Parked, State

AGAIN_S: Final = 5.0
log = structlog.stdlib.get_logger()


class Parking:
    """Parks the events of one connector for its lane, or for a replay. Whoever calls may meet what `wait` raises."""

    def __init__(
        self,
        destination: SharedDestination,
        state: State,
        wait: Callable[[float], Awaitable[object]],
        replay: int | None,
    ) -> None:
        """`replay` is its number; None for the lane."""
        self._connector, self._name = destination.connector, destination.name
        self._state, self._meter, self._wait, self._replay = state, destination.meter, wait, replay
        parks_behind = destination.keeps_order and destination.settings.after_parked == "park"
        self.keeps_behind = parks_behind and replay is None
        """Whether later events of a parked one's key are parked, too."""

    async def refused(self, batch: Batch, verdict: Verdict, began: float) -> None:
        """Put events aside that are never to be tried again; the first attempt began then (Unix seconds). Raises
        Stopped."""
        parked = [
            Parked.make(batch[number], self._name, cause, reason, batch.attempt, status, answer)
            for number, reason, cause, status, answer in verdict.refused
        ]
        first = parked[0]
        log.warning(
            "event parked",
            connector=self._name,
            events=len(parked),
            cause=first.cause,
            offset=first.offset,
            type=first.type,
            **_why([one.reason for one in parked]),
        )
        await self.take([replace(one, first=began) for one in parked])

    async def failed(self, failed: Sequence[Failed], attempts: int = 0) -> None:
        """Put events aside that a filter failed on. Raises Stopped."""
        if not failed:
            return
        first = failed[0]
        log.warning(
            "events parked: a filter failed",
            connector=self._name,
            events=len(failed),
            offset=first.event.offset,
            **_why([one.reason for one in failed]),
        )
        await self.take([Parked.make(each.event, self._name, "filter", each.reason, attempts) for each in failed])

    async def take(self, parked: list[Parked]) -> None:
        """Put events aside, trying until the state database takes them. Raises Stopped."""
        parked = [self._labelled(one) for one in parked]
        while True:
            try:
                await self._state.park(parked)
            except sqlite3.Error as error:
                log.error("parking failed, will be tried again", connector=self._name, error=str(error))
                await self._wait(AGAIN_S)
            else:
                self._meter.parked += len(parked)
                return

    def _labelled(self, one: Parked) -> Parked:
        """With the replay that parks it or, where those behind it have to wait for it, with its key."""
        if self._replay is not None:
            return replace(one, replay=self._replay)
        if self.keeps_behind:
            return replace(one, key=key_of(self._connector, one.event))
        return one


def _why(reasons: Sequence[str]) -> dict[str, str | int]:
    """The first reason, and how many of the events have another one."""
    others = len(reasons) - reasons.count(reasons[0])
    return {"reason": reasons[0]} | ({"for_other_reasons": others} if others else {})


def key_of(connector: Connector, event: Event) -> str | None:
    """What a connector says the event stays in order with; None if it cannot say."""
    try:
        with quick("key", connector=connector.name):
            key = connector.key(event)
        return None if key is None else encodable(str(key))
    except UnreadableEvent:  # there is nothing to keep it in order with
        return None
    except BaseException as error:  # whatever it is, it is the connector's: nothing is awaited here
        told = Redaction(connector.settings).clean(trace_of(error))
        log.error("connector gave no key", connector=connector.name, offset=event.offset, exception=told)
        return None


def keys_of(connector: Connector, batch: Batch) -> list[str | None]:
    """The same for each event of a batch."""
    return [key_of(connector, event) for event in batch]
