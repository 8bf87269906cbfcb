"""Applies filters to one event, and checks their results: the event, others, several or none.

The filters of a route run for every event, so the usual results (the event itself, None) are handled first.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from inspect import iscoroutine
from itertools import chain, islice
from operator import attrgetter
from time import perf_counter
from typing import Any, Final, Literal, NamedTuple, cast

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from relay.api import UNREADABLE, Event, Filter, Kind, UnreadableEvent, is_utf8
from relay.config import Redaction
from relay.guests import BLOCKED_S, Wrong, describe_answer, name_error, read_text, warn_blocked

MOST_PARTS: Final = 1000
"""Parts into which one event may be split."""
MADE_BYTES: Final = 16 << 20
"""Bytes by which the results of filters may exceed the event."""
TYPE_CHARS: Final = 1000
"""Characters of a type that a filter gives."""
_place, _origin = attrgetter("offset", "part", "received"), attrgetter("source", "id_field", "time_field")
_read_object: Final = msgspec.json.Decoder(msgspec.defstruct("Object", [])).decode
_fields: Final = msgspec.json.Decoder(dict[str, Raw]).decode


class Failed(Struct, frozen=True):
    """An event that a filter could not handle."""

    event: Event
    reason: str


Made = Event | Sequence[Event] | Failed | None
"""The result for an event: kept or replaced, split into two or more, parked, or dropped."""


class Explained(NamedTuple):
    """What filters make of a selected event."""

    outcome: Literal["delivered", "filtered", "parked"]
    events: Sequence[Event] = ()
    """The event, or its parts, as the connector gets them."""
    reason: str = ""
    """The filter that drops the event, or the filter that cannot handle the event and why."""
    changed: Sequence[str] = ()
    """The filters that change the event."""
    split: Sequence[str] = ()
    """The filters that split the event."""

    @property
    def said(self) -> str:
        """The result in words."""
        if self.outcome != "delivered":
            return f"{'dropped' if self.outcome == 'filtered' else 'parked'} by {self.reason}"
        split = [f"split into {len(self.events)} by {', '.join(self.split)}"] if self.split else []
        return "; ".join([*split, *([f"changed by {', '.join(self.changed)}"] if self.changed else [])]) or "kept"


def apply_filter(step: Filter, event: Event) -> Made:
    """Apply one filter to an event, and check its result. If the filter raises, this costs only this event."""
    return _pass((step,), event)


def _check_made(event: Event, made: Any) -> Made:
    """Return what a filter has returned for an event, if it is neither the event itself nor None. Raises Wrong.

    An event has to be derived from the one at hand, and to be one JSON object.
    """
    if type(made) is not Event:
        return _check_parts(event, made)
    is_same = made.offset is event.offset and made.part is event.part and made.received is event.received
    if not is_same and (type(made.offset) is not int or _place(made) != _place(event)):
        raise Wrong("apply returned another event, which came at another time: make events by event.with_data")
    if made.kind is not event.kind:
        _check_kind(event.kind, made.kind)
    body = made.body
    if body is not event.body:
        if type(body) is not bytes or not (made.encoded or _is_object(body)):
            raise Wrong("apply returned an event that is not a JSON object")
        if len(body) > MADE_BYTES:
            _check_bytes(len(body) - len(event.body))
    return made


def _check_parts(event: Event, made: Any) -> Made:
    if not isinstance(made, list):
        what = describe_answer(made) if iscoroutine(made) else type(made).__name__
        raise Wrong(f"apply returned {what}, not an event, a list of events, or None")
    if len(made) > MOST_PARTS:
        raise Wrong(f"apply returned {len(made):,} events, at most {MOST_PARTS:,} can be made of one")
    for one in made:
        if type(one) is not Event:
            raise Wrong(f"apply returned {type(one).__name__}, not an event, a list of events, or None")
        if one is not event:
            _check_made(event, one)
    _check_size(len(made), _size(made) - len(event.body))
    return made[0] if len(made) == 1 else [*made] or None


def _make_failure(step: Filter, event: Event, error: BaseException) -> Failed:
    clean = Redaction(step.settings).clean
    match error:
        case Wrong():
            reason = str(error)
        case UnreadableEvent():
            reason = clean(read_text(error.reason))
        case _:
            reason = clean(name_error(error))
    return Failed(event, f"filter {step.name}: {reason}")


def is_for_many(step: Filter) -> bool:
    """Return whether a filter takes many events at once."""
    return type(step).apply_all is not Filter.apply_all


def apply_chain(steps: Sequence[Filter], event: Event) -> Made:
    """Apply filters one after the other to an event. A failure on a part parks the whole event."""
    made = _pass(steps, event)
    return made if made is None or type(made) is Event else _finish(event, made)


def apply_together(steps: Sequence[Filter], events: Sequence[Event]) -> Sequence[Made]:
    """Apply filters to several events, each filter to all events before the next one."""
    found: Sequence[Made] = events
    for step in steps:
        parts = [_list_parts(made) for made in found]
        each = [*chain(*parts)]
        results = iter(_apply_all(step, each) if is_for_many(step) else [_pass([step], one) for one in each])
        found = [
            _join(step, event, [*islice(results, len(some))]) if some else made
            for event, made, some in zip(events, found, parts, strict=True)
        ]
    return [_finish(event, made) for event, made in zip(events, found, strict=True)]


def _list_parts(made: Made) -> Sequence[Event]:
    if made is None or isinstance(made, Failed):
        return ()
    return (made,) if isinstance(made, Event) else made


def _apply_all(step: Filter, events: Sequence[Event]) -> Sequence[Made]:
    """Apply a filter to many events at once; if that fails, to each alone."""
    if not events:
        return ()
    began = perf_counter()
    try:
        results = step.apply_all([*events])
        if not isinstance(results, list | tuple) or len(results) != len(events):
            what = f"{len(results):,} results" if isinstance(results, list | tuple) else describe_answer(results)
            raise Wrong(f"apply_all returned {what} for {len(events):,} events, not a list of as many results")
    except BaseException as error:  # the filter's, as in apply_filter
        failure = error
    else:
        return [_check_result(step, event, made) for event, made in zip(events, results, strict=True)]
    finally:
        if (seconds := perf_counter() - began) >= BLOCKED_S:
            warn_blocked("apply_all", seconds, filter=step.name)
    if len(events) == 1:
        return [_make_failure(step, events[0], failure)]
    return [made for event in events for made in _apply_all(step, [event])]


def _check_result(step: Filter, event: Event, made: Any) -> Made:
    try:
        return made if made is event or made is None else _check_made(event, made)
    except Wrong as error:
        return _make_failure(step, event, error)


def _join(step: Filter, event: Event, results: Sequence[Made]) -> Made:
    """Join what a filter has made of the parts of an event."""
    if len(results) == 1:
        return results[0]
    if failed := next((one for one in results if isinstance(one, Failed)), None):
        return failed
    kept = [part for made in results for part in _list_parts(made)]
    try:
        _check_size(len(kept), _size(kept) - len(event.body))
    except Wrong as error:
        return _make_failure(step, event, error)
    return kept or None


def _finish(event: Event, made: Made) -> Made:
    if made is None or isinstance(made, Event):
        return made
    if isinstance(made, Failed):
        return Failed(event, made.reason)
    return number_parts(made)


def _pass(steps: Sequence[Filter], event: Event) -> Made:
    current, began, remaining = event, perf_counter(), iter(steps)
    for step in remaining:
        try:
            made: Made = step.apply(current)
            if made is not current and made is not None:
                made = _check_made(current, made)
        except BaseException as error:  # whatever it is, it is the filter's: nothing is awaited here
            made = _make_failure(step, current, error)
        ended = perf_counter()
        if ended - began >= BLOCKED_S:
            warn_blocked("apply", ended - began, filter=step.name)
        if type(made) is not Event:
            if made is None or isinstance(made, Failed):
                return made
            return _apply_to_parts([*remaining], current, cast("Sequence[Event]", made))
        current, began = made, ended
    return current


def _apply_to_parts(steps: Sequence[Filter], event: Event, parts: Sequence[Event]) -> Made:
    """Apply the remaining filters to the parts of an event."""
    kept: list[Event] = []
    more = -len(event.body)
    for part in parts if steps else ():
        made = _pass(steps, part)
        if isinstance(made, Failed):
            return made
        if made is not None:
            fresh = [made] if isinstance(made, Event) else made
            kept += fresh
            more += _size(fresh)
        try:
            _check_size(len(kept), more)
        except Wrong as error:
            return Failed(event, f"filter {steps[0].name}: {error}")
    return (kept if steps else parts) or None


def number_parts(parts: Sequence[Event]) -> list[Event]:
    """Number the parts of one event, and make their ids differ: the second part with the id "a" gets "a-2"."""
    seen: dict[str, int] = {}
    """The number of parts with each id."""
    found: list[Event] = []
    for number, part in enumerate(parts):
        body, own = part.body, read_id(part)
        if own is not None and own in seen:
            same = f"{own}-{(nth := seen[own] + 1)}"
            while same in seen:  # a filter gave it
                same = f"{own}-{(nth := nth + 1)}"
            seen[own], seen[same] = nth, 1
            body = msgspec.json.encode(_fields(body) | {part.kind.id_field: same})
        elif own is not None:
            seen[own] = 1
        found.append(Event(body, part.kind, part.offset, part.received, number))
    return found


def explain_chain(steps: Iterable[Filter], event: Event) -> Explained:
    """Apply filters one after the other to an event. A failure on a part parks the whole event."""
    parts, changed, split = [event], list[str](), list[str]()
    for step in steps:
        following: list[Event] = []
        for part in parts:
            made = apply_filter(step, part)
            if isinstance(made, Failed):
                return Explained("parked", reason=made.reason.removeprefix("filter "))
            if isinstance(made, Event):
                if made is not part:
                    changed.append(step.name)
                following.append(made)
            elif made is not None:
                split.append(step.name)
                following += made
        if not following:
            return Explained("filtered", reason=step.name)
        parts = following
    found = number_parts(parts) if split else parts
    return Explained("delivered", found, changed=[*dict.fromkeys(changed)], split=[*dict.fromkeys(split)])


def _check_kind(kind: Kind, made: object) -> None:
    if type(made) is not Kind or _origin(made) != _origin(kind):
        raise Wrong("apply returned an event of another source: make events by event.with_data and event.with_type")
    name = made.type
    if not (type(name) is str and 0 < len(name) <= TYPE_CHARS and name.isprintable()):
        raise Wrong(f"apply returned an event of the type {name!r:.80}: a type has 1 to {TYPE_CHARS:,} characters")


def _is_object(body: bytes) -> bool:
    try:
        _read_object(body)
    except UNREADABLE:
        return False
    return is_utf8(body)


def _size(events: Sequence[Event]) -> int:
    return sum(len(one.body) for one in events)


def _check_size(parts: int, more: int) -> None:
    """Check the number of parts of an event, and their extra bytes. Raises Wrong."""
    if parts > MOST_PARTS:
        raise Wrong(f"the event has more than {MOST_PARTS:,} parts")
    _check_bytes(more)


def _check_bytes(more: int) -> None:
    if more > MADE_BYTES:
        raise Wrong(f"apply made the event more than {MADE_BYTES >> 20} MiB larger")


def read_id(event: Event) -> str | None:
    """Return the id in an event's body; None without any."""
    try:
        found = _make_id_decoder(event.kind.id_field)(event.body)
    except UNREADABLE:
        return None
    return None if found is UNSET or found is None else str(found)


@lru_cache(1000)
def _make_id_decoder(id_field: str) -> Callable[[bytes], Any]:
    """Return a decoder that reads nothing of a JSON object but its id."""
    head = msgspec.defstruct("Head", [("id", Any | UnsetType, UNSET)], rename={"id": id_field}, gc=False)
    decode, read = msgspec.json.Decoder(head).decode, attrgetter("id")
    return lambda body: read(decode(body))
