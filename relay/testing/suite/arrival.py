"""Behaviours on what arrives: events whole and once, of any size and content."""

from collections import Counter
from typing import ClassVar

import orjson

from relay.api import Batch
from relay.testing.suite.behaviour import SuiteBase, behaviour, expect
from relay.testing.suite.destination import find_ids, make_id
from relay.testing.suite.rehearsal import Rehearsal, Settlement

LARGE_BYTES = 900_000
DEEP = 100
ODD_AT = 1
"""The place of the odd event in its batch: not in the middle, so that a list in the wrong order is noticed."""


class ArrivalBehaviours(SuiteBase):
    """What every connector shows of the events that it delivers."""

    many: ClassVar[int]

    @behaviour("whole")
    async def test_delivers_a_batch_whole_and_once(self, rehearsal: Rehearsal) -> None:
        """Every event of a batch is at the destination when `deliver` returns, and none is there twice."""
        async with rehearsal.opened():
            await rehearsal.check_arrives(rehearsal.batch(5))

    @behaviour("one_event")
    async def test_delivers_a_batch_of_one_event(self, rehearsal: Rehearsal) -> None:
        """A batch of one event arrives."""
        async with rehearsal.opened():
            await rehearsal.check_arrives(rehearsal.batch(1))

    @behaviour("outcomes")
    async def test_outcomes_match_what_arrived(self, rehearsal: Rehearsal) -> None:
        """In a mixed batch each outcome stands at the place of its event."""
        ordinary = [rehearsal.event() for _ in range(6)]
        odd = [b'{"event_type":"suite.Odd","n":1e999}', rehearsal.event(user={}), b"1", rehearsal.event(user=None)]
        mixed = rehearsal.batch([odd[0], *ordinary[:4], odd[1], odd[2], ordinary[4], odd[3], ordinary[5]])
        async with rehearsal.opened():
            books = await rehearsal.settle(mixed)
            arrived = await rehearsal.destination.arrived()
        lost = [one for one in ordinary if find_ids(one)[0] not in arrived]
        expect(not lost, f"{len(lost)} of {len(ordinary)} ordinary events did not arrive in a batch with odd ones")
        found = len(books.delivered) + len(books.parked) + len(books.skipped)
        expect(found == len(mixed), f"{found} outcomes for {len(mixed)} events")

    @behaviour("idempotent")
    async def test_a_second_delivery_changes_nothing(self, rehearsal: Rehearsal) -> None:
        """A batch that is delivered again after its acknowledgement got lost is at the destination once."""
        async with rehearsal.opened():
            batch = rehearsal.batch(3)
            await rehearsal.check_arrives(batch)
            await rehearsal.settle(Batch(batch.blocks, attempt=2))
            times = Counter(await rehearsal.destination.distinct())
        expect(max(times.values()) == 1, f"an event is there {max(times.values())} times")

    @behaviour("event_id")
    async def test_the_events_own_id_reaches_the_destination(self, rehearsal: Rehearsal) -> None:
        """The destination gets the `id` of the event, so that duplicates can be told apart."""
        async with rehearsal.opened():
            own = make_id()
            await rehearsal.settle(rehearsal.batch([rehearsal.event(id=own)]))
            expect(own in await rehearsal.destination.arrived(), "the id of the event has not arrived")

    @behaviour("many")
    async def test_delivers_many_events(self, rehearsal: Rehearsal) -> None:
        """10,000 events arrive, in batches of the connector's own size."""
        async with rehearsal.opened() as connector:
            most, sent = connector.settings.batch.events, list[bytes]()
            for first in range(0, self.many, most):
                numbers = range(first, min(first + most, self.many))
                users = [{"user_id": f"{number:024x}", "external_user_id": f"customer-{number}"} for number in numbers]
                batch = rehearsal.batch([rehearsal.event(user=user) for user in users])
                books = await rehearsal.settle(batch)
                expect(len(books.delivered) == len(batch), f"{len(books.delivered)} of {len(batch)} are delivered")
                sent += batch.bodies()
            arrived = Counter(await rehearsal.destination.arrived())
        found = sum(arrived[find_ids(body)[0]] == 1 for body in sent)
        expect(found == self.many, f"{found:,} of {self.many:,} events arrived once")

    @behaviour("large", runs_without=True)
    async def test_takes_an_event_of_900_kilobytes(self, rehearsal: Rehearsal) -> None:
        """A large event arrives."""
        await self._check_odd(rehearsal, "large", rehearsal.event(properties={"text": "x" * LARGE_BYTES}))

    @behaviour("tiny")
    async def test_an_event_of_one_byte_harms_no_other(self, rehearsal: Rehearsal) -> None:
        """One byte that is no object arrives, or is parked alone."""
        await self._check_unreadable(rehearsal, b"1")

    @behaviour("unreadable")
    async def test_an_event_that_cannot_be_read_harms_no_other(self, rehearsal: Rehearsal) -> None:
        """An event with a number and a surrogate that JSON readers refuse arrives, or is parked alone."""
        await self._check_unreadable(rehearsal, b'{"event_type":"suite.Odd","id":"1","n":1e999,"s":"\\ud800"}')

    @behaviour("control_characters", runs_without=True)
    async def test_takes_control_characters(self, rehearsal: Rehearsal) -> None:
        """Texts with line breaks, tabs and other control characters arrive."""
        text = "".join(map(chr, [*range(1, 32), 127, 0x85, 0x2028]))
        await self._check_odd(rehearsal, "control_characters", rehearsal.event(properties={"text": text}))

    @behaviour("nul", runs_without=True)
    async def test_takes_the_character_nul(self, rehearsal: Rehearsal) -> None:
        r"""A text with `\u0000` arrives."""
        await self._check_odd(rehearsal, "nul", rehearsal.event(properties={"text": "a\0b"}))

    @behaviour("not_ascii", runs_without=True)
    async def test_takes_text_beyond_ascii(self, rehearsal: Rehearsal) -> None:
        """Names and values in any script arrive."""
        await self._check_odd(rehearsal, "not_ascii", rehearsal.event(properties={"größe": "東京 🦊 e\u0301"}))

    @behaviour("large_numbers", runs_without=True)
    async def test_takes_numbers_beyond_two_to_the_53(self, rehearsal: Rehearsal) -> None:
        """Whole numbers that no float holds arrive."""
        numbers = {"a": 2**53 + 1, "b": -(2**63), "c": 2**64 - 1, "d": 1e300}
        await self._check_odd(rehearsal, "large_numbers", rehearsal.event(properties=numbers))

    @behaviour("deep", runs_without=True)
    async def test_takes_deep_nesting(self, rehearsal: Rehearsal) -> None:
        """A hundred levels arrive."""
        nested: object = 1
        for _ in range(DEEP):
            nested = [nested]
        await self._check_odd(rehearsal, "deep", rehearsal.event(properties={"nested": nested}))

    @behaviour("no_user", runs_without=True)
    async def test_takes_an_event_without_a_user(self, rehearsal: Rehearsal) -> None:
        """An event with `user: {}` arrives."""
        await self._check_odd(rehearsal, "no_user", rehearsal.event(user={}))

    @behaviour("no_properties", runs_without=True)
    async def test_takes_an_event_without_properties(self, rehearsal: Rehearsal) -> None:
        """An event without the object `properties` arrives."""
        await self._check_odd(rehearsal, "no_properties", rehearsal.event(properties=None))

    @behaviour("unknown_type", runs_without=True)
    async def test_takes_an_event_of_an_unknown_type(self, rehearsal: Rehearsal) -> None:
        """An event of a type that nobody has heard of arrives."""
        await self._check_odd(rehearsal, "unknown_type", _make_unknown(rehearsal))

    async def _check_odd(self, rehearsal: Rehearsal, key: str, odd: bytes) -> None:
        """Deliver an odd event among ordinary ones. It arrives, or it is parked alone where that is declared."""
        books, arrived = await self._deliver_among_others(rehearsal, odd)
        here = arrived.count(find_ids(odd)[0])
        if key in self.lacks:
            expect(not here, f"the event has arrived: leave {key} out of lacks")
            expect(ODD_AT in books.parked or ODD_AT in books.skipped, "the event is neither parked nor skipped")
        else:
            why = books.parked.get(ODD_AT, "skipped" if ODD_AT in books.skipped else "called delivered")
            expect(here, f"the event has not arrived: {why}; if it cannot be taken, say so in lacks[{key!r}]")
            expect(here == 1, f"the event arrived {here} times")

    async def _check_unreadable(self, rehearsal: Rehearsal, odd: bytes) -> None:
        books, _ = await self._deliver_among_others(rehearsal, odd)
        expect(ODD_AT not in books.parked or books.parked[ODD_AT], "the event is parked without a reason")

    async def _deliver_among_others(self, rehearsal: Rehearsal, odd: bytes) -> tuple[Settlement, list[str]]:
        others = [rehearsal.event() for _ in range(4)]
        async with rehearsal.opened():
            books = await rehearsal.settle(rehearsal.batch([*others[:ODD_AT], odd, *others[ODD_AT:]]))
            arrived = await rehearsal.destination.arrived()
        lost = [one for one in others if find_ids(one)[0] not in arrived]
        expect(not lost, f"{len(lost)} of the {len(others)} events around it did not arrive")
        return books, arrived


def _make_unknown(rehearsal: Rehearsal) -> bytes:
    """Return an event of an unknown type, which keeps the id if the id stands in the type."""
    data = orjson.loads(rehearsal.event())
    usual = data["event_type"]
    return orjson.dumps(data | {"event_type": f"nobody.has.{usual if find_ids(usual.encode()) else 'Heard'}"})
