"""Behaviours on a destination in trouble: what did not arrive is sent again, and never called delivered."""

import asyncio

from relay.testing.suite.behaviour import SuiteBase, behaviour, expect
from relay.testing.suite.destination import SLOW_S, Failure
from relay.testing.suite.rehearsal import Rehearsal

STEPS = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89)
"""Turns of the loop after which a delivery is cancelled."""
HANGS_S = 0.2


class TroubleBehaviours(SuiteBase):
    """What every connector shows while its destination fails."""

    @behaviour("refused")
    async def test_a_refused_connection_is_tried_again(self, rehearsal: Rehearsal) -> None:
        """Nothing listens: the events wait, and arrive once the destination is back."""
        await self._check_retry(rehearsal, "refused")

    @behaviour("unavailable")
    async def test_an_unavailable_destination_is_tried_again(self, rehearsal: Rehearsal) -> None:
        """The destination says that it cannot: the events wait, and `deliver` returns instead of trying by itself."""
        await self._check_retry(rehearsal, "unavailable")

    @behaviour("cut")
    async def test_a_connection_cut_before_the_answer_is_tried_again(self, rehearsal: Rehearsal) -> None:
        """Nobody knows whether the destination has the events: they are sent again."""
        await self._check_retry(rehearsal, "cut")

    @behaviour("unauthorized")
    async def test_a_refused_login_pauses(self, rehearsal: Rehearsal) -> None:
        """The outcome is `Unauthorized`: no event is to blame, and the status tells the admin."""
        await self._check_retry(rehearsal, "unauthorized")

    @behaviour("slow")
    async def test_a_slow_destination_gets_the_events_once(self, rehearsal: Rehearsal) -> None:
        """A late answer is an answer."""
        async with rehearsal.opened():
            await rehearsal.destination.fail_with("slow")
            await rehearsal.check_arrives(rehearsal.batch(3))

    @behaviour("hanging")
    async def test_a_delivery_without_an_answer_can_be_cut_off(self, rehearsal: Rehearsal) -> None:
        """A lane cancels the delivery after `timeout`: it ends at once, and the next attempt succeeds."""
        async with rehearsal.opened():
            await rehearsal.destination.fail_with("hanging")
            batch = rehearsal.batch(3)
            call = rehearsal.begin(batch)
            await asyncio.wait({call}, timeout=HANGS_S)
            expect(not call.done() or call.exception(), "events are called delivered without an answer")
            await rehearsal.cut_off(call)
            await rehearsal.destination.recover()
            await rehearsal.check_arrives(batch, once=False)  # what was on its way may come late

    @behaviour("cancelled")
    async def test_a_cancelled_delivery_ends_and_is_made_again(self, rehearsal: Rehearsal) -> None:
        """A delivery that is cancelled at any await ends at once, and the batch arrives afterwards."""
        async with rehearsal.opened():
            for steps in STEPS:
                batch = rehearsal.batch(2)
                call = rehearsal.begin(batch)
                for _ in range(steps):
                    await asyncio.sleep(0)
                await rehearsal.cut_off(call)
                await rehearsal.check_arrives(batch, once=False)

    @behaviour("two_at_once")
    async def test_two_batches_at_once_do_not_mix(self, rehearsal: Rehearsal) -> None:
        """relay delivers up to `concurrency` batches at a time: each arrives, with outcomes of its own."""
        async with rehearsal.opened():
            if "slow" not in self.lacks:
                await rehearsal.destination.fail_with("slow")
            sent = (self._deliver_later(rehearsal, number) for number in range(3))
            for error in await asyncio.gather(*sent, return_exceptions=True):
                if error is not None:
                    raise error

    async def _deliver_later(self, rehearsal: Rehearsal, number: int) -> None:
        await asyncio.sleep(number * SLOW_S / 10)
        await rehearsal.check_arrives(rehearsal.batch(number + 2))

    async def _check_retry(self, rehearsal: Rehearsal, failure: Failure) -> None:
        async with rehearsal.opened():
            await rehearsal.check_arrives(rehearsal.batch(1))  # it has a connection now
            await rehearsal.destination.fail_with(failure)
            batch = rehearsal.batch(3)
            result = await rehearsal.deliver(batch)
            expect(not result.refused, f"a passing trouble is taken for a lasting one: {result.refused[:1]}")
            expect(not result.skipped, "events that did not arrive are skipped")
            expect(len(result.deferred_numbers) == len(batch), "events that did not arrive do not wait")
            for deferral in result.deferred:
                meant = "Unauthorized" if failure == "unauthorized" else "Retry"
                said = "Unauthorized" if deferral.unauthorized else "Retry"
                expect(said == meant, f"the outcome is {said}, not {meant}: {deferral.reason}")
                expect(deferral.reason, "the outcome has no reason")
            await rehearsal.destination.recover()
            await rehearsal.check_arrives(batch, once=failure != "cut")
