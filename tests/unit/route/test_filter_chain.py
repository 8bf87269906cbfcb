"""What filters make of one event: whatever a filter returns, only its event pays for it.

Looked at: events of others, of other kinds, no events, too many, too much, malformed; behind each other; in time.
"""

import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from relay.api import Block, Event, Filter, FilterSettings, Kind
from relay.catalogue import Selection
from relay.route import MOST_PARTS, Failed, Route, apply_chain

KIND = Kind("shop", "shop.Order", "order", "at")
EVENT = Event(b'{"order":"x", "n":100000000000000000000001}', KIND, 5, 7.0)


class Sub(Event):
    pass


class Does(Filter):
    def __init__(self, apply: Callable[[Event], Any]) -> None:
        super().__init__("does", FilterSettings(type="does"))
        self._apply = apply

    def apply(self, event: Event) -> Any:
        return self._apply(event)


def made(*steps: Callable[[Event], Any]) -> Any:
    return apply_chain([*map(Does, steps)], EVENT)


WRONG: dict[str, Callable[[Event], Any]] = {
    "apply returned str, not an event, a list of events, or None": lambda event: "x",
    "apply returned tuple, not an event, a list of events, or None": lambda event: (event, event),
    "apply returned generator, not an event, a list of events, or None": lambda event: (event for _ in range(10**9)),
    "apply returned NoneType, not an event, a list of events, or None": lambda event: [event, None],
    "apply returned list, not an event, a list of events, or None": lambda event: [[event]],
    "apply returned Sub, not an event, a list of events, or None": lambda event: Sub(event.body, event.kind, 5, 7.0),
    "apply returned another event, which": lambda event: Event(event.body, event.kind, 6, event.received),
    "apply returned another event, which came": lambda event: [event, Event(event.body, event.kind, 5, 8.0)],
    "apply returned another event, which came at": lambda event: Event(event.body, event.kind, 5.0, 7.0),  # type: ignore[arg-type]
    "apply returned an event of another source": lambda event: Event(event.body, Kind("", "relay.erased"), 5, 7.0),
    "apply returned an event of the type ''": lambda event: event.with_type(""),
    "apply returned an event of the type 5": lambda event: event.with_type(5),  # type: ignore[arg-type]
    "apply returned an event of the type '\\ud800'": lambda event: event.with_type("\ud800"),
    "apply returned an event that is not a JSON object": lambda event: event.with_data(["x"]),  # type: ignore[arg-type]
    "apply returned an event that is not a JSON": lambda event: event.with_body(b'{"a":1},{"a":2}'),
    "apply returned an event that is not a": lambda event: event.with_body(b'{"a":"\xff"}'),
    "apply returned an event that is": lambda event: event.with_body('{"a":1}'),  # type: ignore[arg-type]
    "TypeError: Type is not JSON serializable: set": lambda event: event.with_data({"a": {1}}),
    "apply returned 1,000,000 events, at most 1,000 can be made of one": lambda event: [event] * 10**6,
    "apply returned an event that is not": lambda event: event.with_body('{"a":1}', encoded=True),  # type: ignore[arg-type]
    "apply returned an event of the type 7": lambda event: event.with_body(b"{}", encoded=True).with_type(7),  # type: ignore[arg-type]
    "apply made the event more than 16 MiB": lambda event: event.with_data({"a": "x" * (17 << 20)}),
    "apply made the event more than 16 MiB larger": lambda event: [event.with_data({"a": "x" * (9 << 20)})] * 2,
}


@pytest.mark.parametrize("reason", WRONG)
def test_what_a_filter_must_not_return_parks_its_event_alone(reason: str) -> None:
    block = Block.of([EVENT, Event(b'{"order":"y"}', KIND, 6, 7.0)])
    routed = Route(Selection(["*"]), [Does(lambda event: WRONG[reason](event) if event.offset == 5 else event)])(block)
    ((event, why),) = [(failed.event, failed.reason) for failed in routed.failed]
    assert why.startswith(f"filter does: {reason}")
    assert (event.body, event.offset) == (EVENT.body, 5)
    assert routed.wanted is not None
    assert list(routed.wanted.offsets) == [6]


def test_bytes_of_an_encoder_are_not_read_once_more() -> None:
    no_json = b"{no JSON"
    assert made(lambda event: event.with_body(no_json, encoded=True)).body == no_json
    assert made(lambda event: event.with_data({"a": 1})).encoded
    reason = "filter does: apply returned an event that is not a JSON object"
    assert made(lambda event: event.with_body(no_json)) == Failed(EVENT, reason)
    failed = made(lambda event: event.with_body(no_json, encoded=True), lambda event: event.with_body(no_json + b" "))
    assert isinstance(failed, Failed)
    assert failed.reason == reason


def test_parts_have_numbers_and_ids_of_their_own_and_keep_all_else() -> None:
    parts = made(
        lambda event: [
            event,
            event.with_data({"order": "x-2"}),
            event,
            event.with_data({"n": 1}),
            event.with_type("b.C"),
        ]
    )
    n = b"100000000000000000000001"
    assert [(part.part, part.body, part.type) for part in parts] == [
        (0, b'{"order":"x", "n":%s}' % n, "shop.Order"),
        (1, b'{"order":"x-2"}', "shop.Order"),
        (2, b'{"order":"x-3","n":%s}' % n, "shop.Order"),
        (3, b'{"n":1}', "shop.Order"),
        (4, b'{"order":"x-4","n":%s}' % n, "b.C"),
    ]
    assert {(part.offset, part.received, part.source, part.kind.id_field, part.kind.time_field) for part in parts} == {
        (5, 7.0, "shop", "order", "at")
    }
    assert [part.id for part in parts if part.part != 3] == ["x", "x-2", "x-3", "x-4"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"order":"x","n":1e999}', "the event cannot be decoded: number is infinity"),
        (b'{"n":1}', "the event has no order"),
    ],
)
def test_an_event_that_cannot_be_read_is_parked_with_a_reason_in_words(body: bytes, reason: str) -> None:
    failed = apply_chain(
        [Does(lambda event: event if event.properties and event.id else event.id)], Event(body, KIND, 5, 7.0)
    )
    assert isinstance(failed, Failed)
    assert failed.reason.startswith(f"filter does: {reason}")


def test_a_list_of_one_replaces_and_an_empty_one_drops() -> None:
    assert made(lambda event: [event]) is EVENT
    assert made(lambda event: [event.with_data({"a": 1})]).body == b'{"a":1}'
    assert made(lambda event: []) is None
    assert made(lambda event: [event, event], lambda event: None) is None


def test_filters_behind_the_one_that_splits_see_each_part() -> None:
    double = lambda event: [event, event]  # noqa: E731
    assert [part.id for part in made(double, double)] == ["x", "x-2", "x-3", "x-4"]
    seen: list[Event] = []
    kept = made(double, lambda event: seen.append(event) or (event if len(seen) == 2 else None))
    assert [(part.part, part.id) for part in kept] == [(0, "x")]
    failed = made(double, lambda event: event if len(seen) < 3 and seen.append(event) is None else 1 / 0)
    assert failed == Failed(EVENT, "filter does: ZeroDivisionError: division by zero")
    many = made(lambda event: [event] * MOST_PARTS, double)
    assert many == Failed(EVENT, "filter does: the event has more than 1,000 parts")


def test_events_of_a_type_that_a_filter_gives_are_of_one_kind() -> None:
    block = Block.of([Event(b'{"order":"%d"}' % n, KIND, n, 7.0) for n in range(9)])
    routed = Route(Selection(["*"]), [Does(lambda event: event.with_type("shop.Item"))])(block)
    assert routed.wanted is not None
    assert [kind.type for kind in routed.wanted.kinds] == ["shop.Item"]


def test_many_parts_of_one_id_take_no_time() -> None:
    began = time.process_time()
    parts = made(lambda event: [event] * MOST_PARTS)
    assert len({part.id for part in parts}) == MOST_PARTS
    assert orjson.loads(parts[-1].body)["order"] == "x-1000"
    assert time.process_time() - began < 1


def test_a_filter_that_holds_up_relay_is_named() -> None:
    with capture_logs() as logs:
        made(lambda event: event, lambda event: time.sleep(0.11) or event)
        made(lambda event: event)
    assert [(line["event"], line["filter"], line["call"]) for line in logs] == [
        ("a plugin held up relay", "does", "apply")
    ]


def test_what_is_enough_for_once_is_routed_and_the_rest_comes_after_that() -> None:
    """A block goes through filters in parts, by time and by size, and all of it does."""
    block = Block.of([Event(b'{"order":"%d"}' % n, KIND, n, 7.0) for n in range(9)])
    for apply, most in (
        (lambda event: time.sleep(0.02) or event, 2),
        (lambda event: event.with_data({"a": "x" * 600_000}), 2),
    ):
        route, at, parts = Route(Selection(["*"]), [Does(apply)]), 0, []
        while at is not None:
            routed = route(block.slice(at, len(block)), part=True)
            assert routed.wanted is not None
            parts.append(list(routed.wanted.offsets))
            at = routed.stop
        assert [offset for part in parts for offset in part] == list(range(9))
        assert max(map(len, parts)) <= most


class DoesAll(Filter):
    """A filter for many events at once."""

    def __init__(self, apply_all: Callable[[Any], Any]) -> None:
        super().__init__("together", FilterSettings(type="together"))
        self._apply_all, self.calls = apply_all, list[list[int]]()

    def apply_all(self, events: Any) -> Any:
        self.calls.append([event.offset for event in events])
        return self._apply_all(events)


def block_of(number: int, size: int = 0) -> Block:
    return Block.of([Event(b'{"order":"%d","x":"%s"}' % (n, b"x" * size), KIND, n, 7.0) for n in range(number)])


def test_a_filter_for_many_events_gets_a_block_at_once() -> None:
    def change(events: Any) -> Any:
        made = {0: lambda e: e, 1: lambda e: None, 2: lambda e: e.with_data({"a": 1}), 3: lambda e: [e, e]}
        return tuple(made[event.offset % 4](event) for event in events)

    filters = [Does(lambda event: event), step := DoesAll(change), Does(lambda event: event.with_type("b.C"))]
    routed = Route(Selection(["*"]), filters)(block_of(8))
    assert step.calls == [[*range(8)]]
    assert routed.wanted is not None
    assert [(event.offset, event.part) for event in routed.wanted] == [
        (0, 0), (2, 0), (3, 0), (3, 1), (4, 0), (6, 0), (7, 0), (7, 1),
    ]  # fmt: skip
    assert [event.id for event in routed.wanted if event.offset == 3] == ["3", "3-2"]
    assert {event.type for event in routed.wanted} == {"b.C"}
    assert (list(routed.filtered), routed.failed) == ([1, 5], [])


def test_a_filter_for_many_events_sees_each_part_and_its_event_is_one() -> None:
    step = DoesAll(lambda events: [event if event.offset else None for event in events])
    routed = Route(Selection(["*"]), [Does(lambda event: [event, event]), step])(block_of(2))
    assert step.calls == [[0, 0, 1, 1]]
    assert routed.wanted is not None
    assert [(event.offset, event.part) for event in routed.wanted] == [(1, 0), (1, 1)]
    assert list(routed.filtered) == [0]
    many = [Does(lambda event: [event] * 600), DoesAll(lambda events: [[event, event] for event in events])]
    (failed,) = Route(Selection(["*"]), many)(block_of(1)).failed
    assert failed.reason == "filter together: the event has more than 1,000 parts"


def test_an_unchanged_block_stays_the_block_after_a_filter_for_many_events() -> None:
    block = block_of(3)
    assert Route(Selection(["*"]), [DoesAll(list)])(block).wanted is block


@pytest.mark.parametrize(
    ("apply_all", "reason"),
    [
        (lambda events: [(1 / (event.offset - 5)) and event for event in events], "ZeroDivisionError: "),
        (lambda events: [event if event.offset != 5 else "x" for event in events], "apply returned str, not an event"),
        (
            lambda events: [event for event in events if event.offset != 5],
            "apply_all returned 0 results for 1 events, not a list of as many results",
        ),
        (
            lambda events: (event for event in events) if any(event.offset == 5 for event in events) else [*events],
            "apply_all returned an object of the type generator for 1 events",
        ),
        (lambda events: [event if event.offset != 5 else event.data["y"] for event in events], "KeyError: 'y'"),
    ],
)
def test_an_event_that_a_filter_for_many_cannot_handle_is_parked_alone(apply_all: Any, reason: str) -> None:
    routed = Route(Selection(["*"]), [Does(lambda event: event), DoesAll(apply_all)])(block_of(8))
    ((event, why),) = [(failed.event, failed.reason) for failed in routed.failed]
    assert (event.offset, event.body) == (5, b'{"order":"5","x":""}')
    assert why.startswith(f"filter together: {reason}")
    assert routed.wanted is not None
    assert [event.offset for event in routed.wanted] == [0, 1, 2, 3, 4, 6, 7]


def test_many_events_are_filtered_in_portions() -> None:
    for block, portions in (
        (block_of(2500), [1000, 1000, 500]),
        (block_of(4, 600_000), [2, 2]),
    ):
        step = DoesAll(lambda events: time.sleep(0.03) or [*events])
        route, at, parts = Route(Selection(["*"]), [step]), 0, []
        while at is not None:
            routed = route(block.slice(at, len(block)), part=True)
            assert routed.wanted is not None
            parts.append(len(routed.wanted))
            at = routed.stop
        assert parts == [*map(len, step.calls)] == portions


def test_a_filter_for_many_events_takes_one_as_well() -> None:
    assert apply_chain([DoesAll(lambda events: [event.with_type("b.C") for event in events])], EVENT).type == "b.C"  # type: ignore[union-attr]
    with capture_logs() as logs:
        Route(Selection(["*"]), [DoesAll(lambda events: time.sleep(0.11) or [*events])])(block_of(2))
    assert [(line["event"], line["filter"], line["call"]) for line in logs] == [
        ("a plugin held up relay", "together", "apply_all")
    ]
