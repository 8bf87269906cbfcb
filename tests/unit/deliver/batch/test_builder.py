"""Cutting the journal into spans: whatever the limits and the route, every event is in exactly one span."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.api import ERASED, BatchSettings, Block, Connector, Event, Filter, Kind
from relay.catalogue import Selection
from relay.deliver.batch.builder import BatchBuilder, Span
from relay.route import Route, Routed
from relay.store.block import make_block

KINDS = {name: Kind("s", name) for name in ("users.messages.email.Open", "users.behaviors.Purchase", "mine")}
KINDS["relay.erased"] = ERASED


class Picky(Filter):
    """Drops events that say drop, chokes on those that say choke, changes or splits those that say so."""

    def apply(self, event: Event) -> Event | list[Event] | None:
        match event.data["do"]:
            case "drop":
                return None
            case "choke":
                raise KeyError("choke")
            case "change":
                return event.with_data(event.data | {"changed": True})
            case "split":
                return [event, event, event]
        return event


def block(offset: int, events: list[tuple[str, str]]) -> Block:
    bodies = [b'{"do":"%s","n":%d}' % (what.encode(), offset + n) for n, (_, what) in enumerate(events)]
    return make_block(offset, 1, [KINDS[kind] for kind, _ in events], bodies)


EVENTS = st.lists(
    st.tuples(st.sampled_from(list(KINDS)), st.sampled_from(["keep", "drop", "choke", "change", "split"])),
    min_size=1,
    max_size=20,
)
SELECTIONS = st.sampled_from([["*"], ["email"], ["!email"], ["mine", "users.behaviors.*"], ["nothing.at.all"]])


def spans_of(blocks: list[Block], route: Any, limits: BatchSettings) -> list[Span]:
    forming, spans = BatchBuilder(0, limits), []
    for one in blocks:
        forming.add(one.offsets[-1] + 1, route(one))
        while forming.is_full:
            spans.append(forming.take())
    return spans if forming.is_empty else [*spans, forming.take()]


@given(
    parts=st.lists(EVENTS, min_size=1, max_size=6),
    selection=SELECTIONS,
    picky=st.booleans(),
    events=st.integers(1, 12),
    size=st.integers(20, 200),
)
def test_spans_cover_the_journal_once_and_keep_the_limits(
    parts: list[list[tuple[str, str]]], selection: list[str], picky: bool, events: int, size: int
) -> None:
    blocks, flat = [], [event for part in parts for event in part]
    for part in parts:
        blocks.append(block(blocks[-1].offsets[-1] + 1 if blocks else 0, part))
    route = Route(Selection(selection), [Picky("picky", None)] if picky else [])  # type: ignore[arg-type]
    limits = BatchSettings.model_construct(events=events, size=size, age=0.0)
    spans = spans_of(blocks, route, limits)

    assert [span.start for span in spans] == [0, *(span.stop for span in spans[:-1])]
    assert spans[-1].stop == len(flat)
    delivered: list[int] = []
    for span in spans:
        batch = list(span.batch or ())
        offsets = list(dict.fromkeys(event.offset for event in batch))
        assert len(batch) <= events or len(offsets) == 1
        assert span.batch is None or span.batch.size <= size or len(offsets) == 1
        assert span.is_split == (len(offsets) < len(batch))
        assert all(span.start <= event.offset < span.stop for event in [*batch, *(f.event for f in span.failed)])
        assert len(offsets) + len(span.failed) + span.counts.total == len(span)
        assert [event.part for event in batch if flat[event.offset][1] == "split" and picky] == [
            part for offset in offsets for part in range(3) if flat[offset][1] == "split" and picky
        ]
        delivered += offsets
    gone = {n for n, (kind, _) in enumerate(flat) if kind == "relay.erased"}
    assert sum(span.counts.erased for span in spans) == len(gone)
    wanted = [n for n, (kind, _) in enumerate(flat) if n not in gone and Selection(selection).wants(kind)]
    kept = [n for n in wanted if not picky or flat[n][1] in ("keep", "change", "split")]
    assert delivered == kept
    assert sum(span.counts.filtered for span in spans) == sum(picky and flat[n][1] == "drop" for n in wanted)
    assert sum(len(span.failed) for span in spans) == sum(picky and flat[n][1] == "choke" for n in wanted)


def test_a_block_that_is_wanted_whole_is_passed_on_and_not_copied() -> None:
    whole = block(0, [("mine", "keep"), ("mine", "keep")])
    assert Route(Selection(["mine"]))(whole).wanted is whole
    (span,) = spans_of([whole], Route(Selection(["*"])), BatchSettings())
    assert span.batch is not None
    assert span.batch.blocks == (whole,)
    assert span.batch.joined(b"[", b"]") == b"[" + whole.body + b"]"


def test_a_changed_event_keeps_its_place_and_the_others_their_bytes() -> None:
    mixed = block(5, [("mine", "keep"), ("mine", "change"), ("mine", "drop")])
    routed = Route(Selection(["*"]), [Picky("p", None)])(mixed)  # type: ignore[arg-type]
    assert routed == Routed(routed.wanted, [7], [])
    assert routed.wanted is not None
    assert routed.wanted.bodies() == [mixed.bodies()[0], b'{"do":"change","n":6,"changed":true}']
    assert list(routed.wanted.offsets) == [5, 6]


def test_a_filter_that_fails_costs_its_event_and_says_why() -> None:
    routed = Route(Selection(["*"]), [Picky("picky", None)])(block(0, [("mine", "choke"), ("mine", "keep")]))  # type: ignore[arg-type]
    assert [(failed.event.offset, failed.reason) for failed in routed.failed] == [
        (0, "filter picky: KeyError: 'choke'")
    ]
    assert routed.wanted is not None
    assert list(routed.wanted.offsets) == [1]


@pytest.mark.parametrize("returned", ["x", True, b"{}"])
def test_a_filter_that_returns_no_event_costs_only_the_event(returned: Any) -> None:
    class Wrong(Filter):
        def apply(self, event: Event) -> Any:
            return returned

    routed = Route(Selection(["*"]), [Wrong("wrong", None)])(block(0, [("mine", "keep")]))  # type: ignore[arg-type]
    (failed,) = routed.failed
    name = type(returned).__name__
    assert failed.reason == f"filter wrong: apply returned {name}, not an event, a list of events, or None"


def test_a_connector_class_without_a_proper_deliver_is_refused() -> None:
    with pytest.raises(TypeError, match="connector type idle: Idle needs a method `async def deliver"):

        class Idle(Connector, type="idle"):
            pass

    with pytest.raises(TypeError, match="async def deliver"):

        class Blocking(Connector, type="blocking"):
            def deliver(self, batch: Any) -> None:  # type: ignore[override]
                pass
