"""Has one connector erase users at its destination, as often as it takes."""

import asyncio
import random
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import structlog

from relay.api import Delivered, Retry
from relay.api.internal import LeftBehind
from relay.config import Redaction
from relay.deliver import LiveLane, Verdict, judge, retry_delay
from relay.guests import called, text_of, trace_of
from relay.journal import Wanted
from relay.state import (
    ConnectorAnswer,
    Erasure,
    State,
    find_held_elsewhere,
    find_unchanged,
    read_erasures,
    save_answers,
)
from relay.threads import ADMIN

LOOK_S: Final = 0.5
ERASE_S: Final = 300.0
"""What one call of `erase` may take."""
HOLDS: Final = "the connector's thread hangs, and may hold events of the user; told once it is back"
log = structlog.stdlib.get_logger()


class ConnectorErasure:
    """What is left to be told to one connector, while there `is_anything` to be told to any. Its `retry` says how soon
    it is told again.

    What its threads were doing when the user's events were removed may hold some of them, and write them yet: it is
    told once those threads are back. The first worker tells it, when all that run have their threads back: the others
    only say so, in their own ledgers."""

    def __init__(self, lane: LiveLane, state: State, is_anything: Callable[[], bool], worker: int) -> None:
        self._connector, self._opener, self._in_threads = lane.connector, lane.opener, lane.in_threads
        self._state, self._is_anything, self._worker = state, is_anything, worker
        self._clean = Redaction(lane.connector.settings).clean
        self._attempt, self._left = 0, LeftBehind()
        self._seen: set[tuple[int, float | None]] = set()
        """Erasures, and when their events were removed, of which it is known what the threads were doing."""

    async def run(self) -> None:
        """Tell it of all erasures, for ever."""
        while True:
            delay = LOOK_S
            try:
                if self._is_anything() and (lacking := await self._lacking()):
                    delay = await (self._proceed(lacking) if await self._are_back(lacking) else self._hold(lacking))
            except (sqlite3.Error, OSError) as error:
                log.error("erasures cannot be read", connector=self._connector.name, error=str(error))
            await asyncio.sleep(delay)

    async def _lacking(self) -> list[Erasure]:
        named = "user_id NOT NULL OR external_ids != '[]' OR other_ids != '[]'"
        condition = f"done IS NULL AND compacted NOT NULL AND ({named})"
        under_way = await self._state.look(lambda db: read_erasures(db, condition))
        return [one for one in reversed(under_way) if one.lacks(self._connector.name)]

    async def _are_back(self, lacking: Sequence[Erasure]) -> bool:
        """Whether all threads are back that may hold events of these users, or soon are."""
        removed = {(one.number, one.compacted) for one in lacking}
        if removed - self._seen:
            self._left.take(self._in_threads())
        self._seen = removed
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await self._left.back()
        return not self._left

    async def _proceed(self, lacking: Sequence[Erasure]) -> float:
        """All threads of this worker are back: say so, or tell it what no other worker holds; return the seconds until
        that is looked at again."""
        name, numbers = self._connector.name, [one.number for one in lacking]
        if self._worker:
            answers = dict.fromkeys(numbers, ConnectorAnswer(name, "done"))
            await self._state.run(lambda db: _note(db, lacking, answers))
            return LOOK_S
        held = await ADMIN.run(find_held_elsewhere, self._state.folder, name, numbers)
        if hanging := [one for one in lacking if held.get(one.number)]:
            await self._hold(hanging)
        free = [one for one in lacking if one.number not in held]
        return await self._tell(free) if free else LOOK_S

    async def _hold(self, lacking: Sequence[Erasure]) -> float:
        """Keep, once for each, why it is not told; return the seconds until that is looked at again."""
        name, held = self._connector.name, ConnectorAnswer(self._connector.name, "failed", HOLDS)
        known = {
            one.number for one in lacking for each in one.answers if (each.connector, each.reason) == (name, HOLDS)
        }
        answers = {one.number: held for one in lacking if one.number not in known}
        if answers:
            await self._state.run(lambda db: _note(db, lacking, answers))
            log.warning("erasing failed at the connector", connector=name, users=len(answers), reason=HOLDS)
        return LOOK_S

    async def _tell(self, lacking: Sequence[Erasure]) -> float:
        """Tell it; return the seconds until it is to be told again."""
        wanted = Wanted({one.number: one.user for one in lacking})
        try:
            verdict, notes = await self._asked(lacking, wanted)
        except asyncio.CancelledError:  # by a stop or a reload, which may have been the end of this connector
            await self._cut_short(lacking)
            raise
        answers = self._answers(lacking, verdict, notes, wanted)
        await self._state.run(lambda db: _note(db, lacking, answers))
        failed = [one for one in answers.values() if one.outcome == "failed"]
        if not failed:
            self._attempt = 0
            return LOOK_S
        self._attempt += 1
        retry = self._connector.settings.retry
        after = max((why.after for why in verdict.deferred if why.after is not None), default=None)
        delay = retry_delay(self._attempt, first=retry.first, longest=retry.max, after=after, chance=random.Random())
        news = {"users": len(failed), "reason": failed[0].reason, "next_try_s": round(delay, 3)}
        grave = verdict.refused or any(why.unauthorized for why in verdict.deferred)
        tell = log.error if grave else log.warning  # an error does not mend itself
        tell("erasing failed at the connector", connector=self._connector.name, **news)
        return max(delay, LOOK_S)

    async def _cut_short(self, lacking: Sequence[Erasure]) -> None:
        """Keep that it has those to do of which nothing says so yet."""
        failed = ConnectorAnswer(self._connector.name, "failed", "cut short")
        answers = {one.number: failed for one in lacking if not one.failed_at(failed.connector)}
        try:
            await self._state.run(lambda db: _note(db, lacking, answers))
        except sqlite3.Error as error:  # the stop goes on
            log.error("erasures cannot be kept", connector=self._connector.name, error=str(error))

    async def _asked(self, lacking: Sequence[Erasure], wanted: Wanted) -> tuple[Verdict, Mapping[int, str]]:
        """What came of it, and what the connector notes of users whom it has erased."""
        users = [one.user for one in lacking]
        if problem := await self._opener.tried():
            return judge(len(users), Retry(problem), self._clean), {}
        try:
            with self._left.noted():
                work, whose = partial(self._connector.erase, users), {"connector": self._connector.name}
                answer = await called(work, "erase", whose, ERASE_S)
            verdict = judge(len(users), answer, self._clean)
            outcomes = enumerate(answer or ()) if verdict.by_event else ()
            return verdict, {number: one.note for number, one in outcomes if isinstance(one, Delivered) and one.note}
        except Exception as error:
            verdict = judge(len(users), error, self._clean)
            if any(why.bug for why in verdict.deferred):
                told = wanted.hide(self._clean(trace_of(error)))
                log.error("connector raised", connector=self._connector.name, exception=told)
            return verdict, {}

    def _answers(
        self, lacking: Sequence[Erasure], verdict: Verdict, notes: Mapping[int, str], wanted: Wanted
    ) -> Mapping[int, ConnectorAnswer]:
        """What is kept of the connector's answer: nothing that names a user."""
        name = self._connector.name
        answers = dict.fromkeys(range(len(lacking)), ConnectorAnswer(name, "done"))
        answers |= {
            number: ConnectorAnswer(name, "done", wanted.hide(self._clean(text_of(note))))
            for number, note in notes.items()
        }
        answers |= dict.fromkeys(verdict.skipped, ConnectorAnswer(name, "skipped", wanted.hide(verdict.why_skipped)))
        for why in verdict.deferred:
            answers |= dict.fromkeys(why.numbers, ConnectorAnswer(name, "failed", wanted.hide(why.reason)))
        answers |= {one.number: ConnectorAnswer(name, "failed", wanted.hide(one.reason)) for one in verdict.refused}
        return {lacking[number].number: answer for number, answer in answers.items()}


def _note(db: sqlite3.Connection, asked: Sequence[Erasure], answers: Mapping[int, ConnectorAnswer]) -> None:
    """Keep the answers; but who is known by another id meanwhile has to be erased again."""
    known = find_unchanged(db, asked)
    save_answers(db, {number: answer for number, answer in answers.items() if number in known})
