"""`FilterSuite`: what every filter must show. Subclass it in a test module."""

import copy
import gc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import orjson

from relay.api import Event, Filter
from relay.route import Failed, apply_chain
from relay.testing.build import make_batch, make_event
from relay.testing.suite.behaviour import Check, SuiteBase, behaviour, expect
from relay.testing.suite.held import count_held
from relay.testing.suite.refusal import check_refused

ODD = {
    "no user": {"user": {}},
    "a user that is a text": {"user": "anna"},
    "no properties": {"properties": None},
    "properties in a list": {"properties": [1, 2]},
    "nested properties": {"properties": {"items": [{"a": [{}]}], "text": None}},
    "a number as a text": {"time": "yesterday"},
    "text beyond ASCII": {"properties": {"größe": "東京 🦊 \0"}},
    "large numbers": {"properties": {"a": 2**53 + 1, "b": 2**64 - 1}},
    "a large text": {"properties": {"text": "x" * 900_000}},
}
UNREADABLE = b'{"event_type":"suite.Odd","id":"1","n":1e999,"s":"\\ud800"}'
TIMES = 50


class FilterSuite(SuiteBase):
    """Tests of a filter. Subclass it with a name that begins with `Test`, and write `make` and `event`."""

    lacks: ClassVar[Mapping[str, str]] = {}
    """What the filter cannot have: the short name of a behaviour, and the reason. pytest prints them at the end."""
    limit: ClassVar[float] = 30.0
    """Most seconds of one behaviour."""

    def make(self, folder: Path) -> Filter:
        """Return the filter under test. `folder`: the state folder."""
        raise NotImplementedError

    def event(self) -> bytes:
        """Return the bytes of an event that the filter changes, splits or drops."""
        raise NotImplementedError

    def other_event(self) -> bytes:
        """Return the bytes of an event that the filter leaves as it is; by default an event of Braze."""
        return make_event("users.canvas.Entry")

    @behaviour("does_something")
    async def test_changes_its_event(self, filter: Filter) -> None:
        """The event of the suite is changed, split or dropped, and what comes out is an event."""
        body = self.event()
        made = _apply(filter, body)
        expect([one.body for one in made] != [body], "the event comes out as it went in")

    @behaviour("leaves_others")
    async def test_leaves_other_events_as_they_are(self, filter: Filter) -> None:
        """An event that is no business of the filter keeps its bytes."""
        body = self.other_event()
        expect([one.body for one in _apply(filter, body)] == [body], "the event does not come out as it went in")

    @behaviour("repeatable")
    async def test_makes_the_same_of_the_same(self, filter: Filter) -> None:
        """relay applies a filter again after a crash: only a filter with `stateful = True` may make something else."""
        if filter.stateful:
            return
        body = self.event()
        first = [(one.type, one.body) for one in _apply(filter, body)]
        for _ in range(TIMES):
            made = [(one.type, one.body) for one in _apply(filter, body)]
            expect(made == first, "the same event comes out in another way: set stateful = True")

    @behaviour("shared_content")
    async def test_does_not_change_the_event_at_hand(self, filter: Filter) -> None:
        """All connectors share the decoded event: a filter makes a new one by `with_data`."""
        for body in (self.event(), self.other_event()):
            (event,) = make_batch([body])
            before = copy.deepcopy(event.data)
            apply_chain([filter], event)
            expect(event.data == before, "apply has changed the event at hand: use event.with_data")

    @behaviour("odd")
    async def test_takes_odd_events(self, filter: Filter) -> None:
        """An event with odd content comes out, or is dropped; it is no bug."""
        for base in (self.event(), self.other_event()):
            for name, changes in ODD.items():
                data = orjson.loads(base) | changes
                body = orjson.dumps({key: value for key, value in data.items() if value is not None})
                _apply(filter, body, f"an event with {name}")

    @behaviour("unreadable")
    async def test_an_event_that_cannot_be_read_harms_no_other(self, filter: Filter) -> None:
        """An event that cannot be decoded may be parked; the next event comes out as before."""
        body = self.event()
        before = [one.body for one in _apply(filter, body)]
        (event,) = make_batch([b'{"event_type":"suite.Odd"}'])
        apply_chain([filter], Event(UNREADABLE, event.kind, event.offset, event.received))
        after = [one.body for one in _apply(filter, body)]
        expect(filter.stateful or after == before, "another event comes out in another way afterwards")

    @behaviour("memory")
    async def test_memory_does_not_grow_with_events(self, filter: Filter) -> None:
        """A filter keeps nothing of an event, unless it is `stateful`."""
        if filter.stateful:
            return
        sizes = []
        for _ in range(2):
            for _ in range(TIMES):
                _apply(filter, self.event())
            gc.collect()
            sizes.append(count_held(filter))
        grown = {place: size - sizes[0][place] for place, size in sizes[1].items() if size - sizes[0][place] >= TIMES}
        expect(not grown, f"grows with each event: {', '.join(grown)}")

    @behaviour("closed_twice")
    async def test_can_be_closed_twice_and_opened_again(self, filter: Filter) -> None:
        """`close` does nothing the second time, and `open` works again afterwards."""
        await filter.close()
        await filter.release()
        await filter.open()
        _apply(filter, self.event())

    @behaviour("unknown_setting")
    async def test_refuses_an_unknown_setting(self, filter: Filter) -> None:
        """A setting that the type does not have is a mistake, and named."""
        check_refused(filter.settings, "surprise", 1)

    async def _show(self, check: Check, folder: Path) -> None:
        made = self.make(folder)
        made.folder = folder
        try:
            await made.open()
            await check(self, made)
        finally:
            await made.release()


def _apply(step: Filter, body: bytes, what: str = "the event") -> Sequence[Event]:
    (event,) = make_batch([body])
    made = apply_chain([step], event)
    expect(not isinstance(made, Failed), f"{what} is parked: {getattr(made, 'reason', '')}")
    parts = () if made is None or isinstance(made, Failed) else (made,) if isinstance(made, Event) else made
    expect(all(map(_is_object, parts)), f"{what} comes out as something else than a JSON object")
    return parts


def _is_object(event: Event) -> bool:
    try:
        return isinstance(orjson.loads(event.body), dict)
    except ValueError:
        return False
