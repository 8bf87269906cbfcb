"""Parks events, and tries until the state takes them."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

import structlog
from msgspec.structs import replace

from relay.api import Batch, Connector, Event, UnreadableEvent
from relay.config import Redaction
from relay.deliver.destination import SharedDestination
from relay.deliver.result import AttemptResult
from relay.guests import escape_surrogates, format_trace, quick
from relay.route import Failed
from relay.store import Parked, State, Unavailable

AGAIN_S: Final = 5.0
log = structlog.stdlib.get_logger()


class Parking:
    """Parks the events of one connector, for its lane or for a replay. Every method raises what `wait` raises."""

    def __init__(
        self,
        destination: SharedDestination,
        state: State,
        wait: Callable[[float], Awaitable[object]],
        replay: int | None,
    ) -> None:
        """`replay` is its number; None for the lane."""
        self._connector, self._name = destination.connector, destination.name
        self._state, self._metrics, self._wait, self._replay = state, destination.metrics, wait, replay
        parks_behind = destination.keeps_order and destination.settings.after_parked == "park"
        self.parks_behind = parks_behind and replay is None
        """Whether later events of a parked event's key are parked, too."""

    async def park_refused(self, batch: Batch, result: AttemptResult, began: float) -> None:
        """Park events that are never tried again. Their first attempt began at `began`, in Unix seconds. Raises
        Stopped."""
        parked = [
            Parked.make(batch[number], self._name, cause, reason, batch.attempt, status, answer)
            for number, reason, cause, status, answer in result.refused
        ]
        first = parked[0]
        log.warning(
            "event parked",
            connector=self._name,
            events=len(parked),
            cause=first.cause,
            offset=first.offset,
            type=first.type,
            **_reason_fields([one.reason for one in parked]),
        )
        await self.park([replace(one, first=began) for one in parked])

    async def park_failed(self, failed: Sequence[Failed], attempts: int = 0) -> None:
        """Park events that a filter failed on. Raises Stopped."""
        if not failed:
            return
        first = failed[0]
        log.warning(
            "events parked: a filter failed",
            connector=self._name,
            events=len(failed),
            offset=first.event.offset,
            **_reason_fields([one.reason for one in failed]),
        )
        await self.park([Parked.make(each.event, self._name, "filter", each.reason, attempts) for each in failed])

    async def park(self, parked: list[Parked]) -> None:
        """Park events, and try until the state takes them. Raises Stopped.

        Each event gets the replay that parks it or, where later events of its key have to wait, its key."""
        if self._replay is not None:
            parked = [replace(one, replay=self._replay) for one in parked]
        elif self.parks_behind:
            parked = [replace(one, key=find_key(self._connector, one.event)) for one in parked]
        while True:
            try:
                await self._state.park(parked)
            except Unavailable as error:
                if not error.is_logged:
                    log.error("parking failed, will be tried again", connector=self._name, error=str(error))
                await self._wait(AGAIN_S)
            else:
                self._metrics.parked += len(parked)
                return


def _reason_fields(reasons: Sequence[str]) -> dict[str, str | int]:
    """Return the first reason, and how many events have another reason."""
    others = len(reasons) - reasons.count(reasons[0])
    return {"reason": reasons[0]} | ({"for_other_reasons": others} if others else {})


def find_key(connector: Connector, event: Event) -> str | None:
    """Return the key by which a connector keeps the event in order; None without a key."""
    try:
        with quick("key", connector=connector.name):
            key = connector.key(event)
        return None if key is None else escape_surrogates(str(key))
    except UnreadableEvent:  # there is nothing to keep it in order with
        return None
    except BaseException as error:  # whatever it is, it is the connector's: nothing is awaited here
        trace = Redaction(connector.settings).clean(format_trace(error))
        log.error("connector gave no key", connector=connector.name, offset=event.offset, exception=trace)
        return None


def find_keys(connector: Connector, events: Collection[Event]) -> list[str | None]:
    """Return the key of each event. The events share one look at the clock: they all come in one step of the loop."""
    try:
        with quick("key", connector=connector.name):
            found = map(connector.key, events)
            return [None if key is None else escape_surrogates(str(key)) for key in found]
    except BaseException:  # a fault counts for its event only
        return [find_key(connector, event) for event in events]
