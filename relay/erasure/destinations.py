"""Calls a connector's erase() until the connector has erased its users."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import structlog

from relay.api import Delivered, Retry
from relay.api.internal import LeftBehind
from relay.config import Redaction
from relay.deliver import AttemptResult, LiveLane, draw_retry_delay, judge
from relay.guests import call_guest, format_trace, read_text
from relay.store import ConnectorAnswer, Erasure, Erasures, Unavailable, Wanted

LOOK_S: Final = 0.5
ERASE_S: Final = 300.0
"""Seconds that one call of `erase` may take."""
HANGS: Final = "the connector's thread hangs, and may hold events of the user; told once it is back"
log = structlog.stdlib.get_logger()


class ConnectorErasure:
    """Calls one connector's erase() for every erasure that the connector has not confirmed.

    A thread of the connector may hold a user's events from before their removal, and still write them. So relay calls
    erase() once those threads are back. The first worker calls it, once the threads of all running workers are back.
    The other workers only report that in their own databases. The connector's `retry` sets the pause between failed
    calls.
    """

    def __init__(self, lane: LiveLane, erasures: Erasures, is_anything: Callable[[], bool], worker: int) -> None:
        self._connector, self._opener, self._in_threads = lane.connector, lane.opener, lane.find_thread_work
        self._erasures, self._is_anything, self._worker = erasures, is_anything, worker
        self._clean = Redaction(lane.connector.settings).clean
        self._attempt, self._left = 0, LeftBehind()
        self._seen: set[tuple[int, float | None]] = set()
        """Erasures with the time of their removal, for which the threads at work are known."""

    async def run(self) -> None:
        """Call erase() for every unconfirmed erasure, for ever."""
        while True:
            delay = LOOK_S
            try:
                if self._is_anything():
                    delay = await self._proceed()
            except Unavailable as error:
                if not error.is_logged:
                    log.error("erasures cannot be read", connector=self._connector.name, error=str(error))
            await asyncio.sleep(delay)

    async def _proceed(self) -> float:
        """Go on with the unconfirmed erasures; return the seconds until the next check.

        The first worker calls erase() for users whose events no other worker holds. Another worker reports its threads.
        """
        name = self._connector.name
        lacking = [one for one in reversed(await self._erasures.read_at_connectors()) if one.lacks(name)]
        if not lacking:
            return LOOK_S
        removed = {(one.number, one.compacted) for one in lacking}
        if removed - self._seen:
            self._left.take(self._in_threads())
        self._seen = removed
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await self._left.back()
        if self._left:  # a thread may hold events of these users
            return await self._hold(lacking)
        numbers = [one.number for one in lacking]
        if self._worker:
            answers = dict.fromkeys(numbers, ConnectorAnswer(name, "done"))
            await self._erasures.save_answers(lacking, answers)
            return LOOK_S
        held = await self._erasures.find_held_elsewhere(name, numbers)
        if hanging := [one for one in lacking if held.get(one.number)]:
            await self._hold(hanging)
        free = [one for one in lacking if one.number not in held]
        return await self._call_connector(free) if free else LOOK_S

    async def _hold(self, lacking: Sequence[Erasure]) -> float:
        """Save and log, once per erasure, why erase() is not called; return the seconds until the next check."""
        name, held = self._connector.name, ConnectorAnswer(self._connector.name, "failed", HANGS)
        known = {
            one.number for one in lacking for each in one.answers if (each.connector, each.reason) == (name, HANGS)
        }
        answers = {one.number: held for one in lacking if one.number not in known}
        if answers:
            await self._erasures.save_answers(lacking, answers)
            log.warning("erasing failed at the connector", connector=name, users=len(answers), reason=HANGS)
        return LOOK_S

    async def _call_connector(self, lacking: Sequence[Erasure]) -> float:
        """Call erase() and save the answers; return the seconds until the next call."""
        name = self._connector.name
        try:
            result, answers = await self._call_erase(lacking)
        except asyncio.CancelledError:  # by a stop or a reload, which may have been the end of this connector
            unfinished = ConnectorAnswer(name, "failed", "cut short")
            answers = {one.number: unfinished for one in lacking if not one.failed_at(name)}
            try:
                await self._erasures.save_answers(lacking, answers)
            except Unavailable as error:  # the stop goes on
                if not error.is_logged:
                    log.error("erasures cannot be kept", connector=name, error=str(error))
            raise
        await self._erasures.save_answers(lacking, answers)
        failed = [one for one in answers.values() if one.outcome == "failed"]
        if not failed:
            self._attempt = 0
            return LOOK_S
        self._attempt += 1
        retry = self._connector.settings.retry
        after = max((why.after for why in result.deferred if why.after is not None), default=None)
        delay = draw_retry_delay(
            self._attempt, first=retry.first, longest=retry.max, after=after, chance=random.Random()
        )
        news = {"users": len(failed), "reason": failed[0].reason, "next_try_s": round(delay, 3)}
        grave = result.refused or any(why.unauthorized for why in result.deferred)
        tell = log.error if grave else log.warning  # an error does not mend itself
        tell("erasing failed at the connector", connector=name, **news)
        return max(delay, LOOK_S)

    async def _call_erase(self, lacking: Sequence[Erasure]) -> tuple[AttemptResult, dict[int, ConnectorAnswer]]:
        """Call erase(); return the result, and an answer for each erasure."""
        users, notes = [one.user for one in lacking], dict[int, str]()
        wanted = Wanted({one.number: one.user for one in lacking})
        if problem := await self._opener.wait_until_tried():
            result = judge(len(users), Retry(problem), self._clean)
        else:
            try:
                with self._left.noted():
                    work, whose = partial(self._connector.erase, users), {"connector": self._connector.name}
                    answer = await call_guest(work, "erase", whose, ERASE_S)
                result = judge(len(users), answer, self._clean)
                outcomes = enumerate(answer or ()) if result.by_event else ()
                notes = {number: one.note for number, one in outcomes if isinstance(one, Delivered) and one.note}
            except Exception as error:
                result = judge(len(users), error, self._clean)
                if any(why.bug for why in result.deferred):
                    told = wanted.hide(self._clean(format_trace(error)))
                    log.error("connector raised", connector=self._connector.name, exception=told)
        answers = self._make_answers(result, notes, len(lacking), wanted)
        return result, {lacking[number].number: answer for number, answer in answers.items()}

    def _make_answers(
        self, result: AttemptResult, notes: Mapping[int, str], size: int, wanted: Wanted
    ) -> dict[int, ConnectorAnswer]:
        """Make the answer for each of `size` users, by the user's number in the call. The answers name no user."""
        name = self._connector.name
        answers = dict.fromkeys(range(size), ConnectorAnswer(name, "done"))
        for number, note in notes.items():
            answers[number] = ConnectorAnswer(name, "done", wanted.hide(self._clean(read_text(note))))
        answers |= dict.fromkeys(result.skipped, ConnectorAnswer(name, "skipped", wanted.hide(result.why_skipped)))
        for why in result.deferred:
            answers |= dict.fromkeys(why.numbers, ConnectorAnswer(name, "failed", wanted.hide(why.reason)))
        answers |= {one.number: ConnectorAnswer(name, "failed", wanted.hide(one.reason)) for one in result.refused}
        return answers
