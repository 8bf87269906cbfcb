"""`relay trace ID`: where an event is, and what becomes of it in every connector."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import click
import orjson

from relay.api import Event, Filter
from relay.catalogue import Selection
from relay.cli.journal import Place, lanes, moment, one_object, places, tell_damage
from relay.config import Config
from relay.journal import Attempts, Parked, Which, look_at_parked
from relay.journal.attempts import attempts_at
from relay.journal.books import Books, acknowledged
from relay.journal.folders import worker_of
from relay.journal.inspect import Inspected, blocks, segments
from relay.route import Failed, applied
from relay.words import counted

ESCAPED: Final = frozenset('"\\/')
"""What a sender may write in more than one way inside a JSON string."""


@click.command
@click.argument("id")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@places
def trace(place: Place, id: str, as_json: bool) -> None:
    """Find the event with this ID, in the journal and among the parked events, and tell its way through relay.

    For each connector: whether its selection wants the event, what its filters make of it, and how far it is. An event
    that came several times is shown as often. Exits with 1 if it is nowhere.
    """
    found = [(each, _traced(each, id)) for each in place.workers]
    hits = [(each, one) for each, one in found if one["journal"] or one["parked"]]
    if as_json:
        click.echo(one_object(found, id=id))
    else:
        click.echo("\n".join(_text(hits, several=len(found) > 1)) or f"{id}: not found")
    raise SystemExit(0 if hits else 1)


def _text(hits: Sequence[tuple[Place, dict[str, Any]]], *, several: bool) -> Iterator[str]:
    for place, found in hits:
        if several:
            yield f"worker {place.worker}:"
        yield from (*map(_lines, found["journal"]), *map(_parked_line, found["parked"]))


def _traced(place: Place, id: str) -> dict[str, Any]:
    """What is known of the event in one worker's folder."""
    saved = lanes(place.state)
    listed = segments(place.journal, acknowledged(saved))
    matches = [*_matches(listed, id)]
    offsets = {event.offset for _, event in matches}
    aside = [one for one in _parked(place) if _is_of(one, id)]
    found = [
        _told(segment, event, _ways(event, place.config, saved, aside, _noted(place, event.offset)))
        for segment, event in matches
    ]
    tell_damage(listed)
    return {"id": id, "journal": found, "parked": [_put_aside(one) for one in aside if one.offset not in offsets]}


def _parked(place: Place) -> Iterator[Parked]:
    with suppress(FileNotFoundError):
        yield from (one for one in look_at_parked(place.state, Which()) if worker_of(one.number) == place.worker)


def _noted(place: Place, offset: int) -> list[Attempts]:
    with suppress(FileNotFoundError):
        return attempts_at(place.state, offset)
    return []


def _matches(listed: Sequence[Inspected], id: str) -> Iterator[tuple[Inspected, Event]]:
    """Events with this id. Blocks and events that do not hold its bytes are not decoded."""
    is_plain = id.isascii() and id.isprintable() and ESCAPED.isdisjoint(id)
    needle = id.encode() if is_plain else b""
    for segment, block in blocks(listed):
        if needle in block.body:
            for event in block.events():
                if needle in event.body and _id(event) == id:
                    yield segment, event


def _id(event: Event) -> str | None:
    try:
        return event.id
    except (ValueError, LookupError, TypeError):
        return None


def _is_of(one: Parked, id: str) -> bool:
    """Whether a parked event has this id. What was unreadable at its source has it if any field of it says so."""
    if one.offset is not None:
        return _id(one.event) == id
    try:
        data = orjson.loads(one.body)
    except orjson.JSONDecodeError:
        return id.encode() in one.body
    return isinstance(data, dict) and id in map(str, data.values())


def _told(segment: Inspected, event: Event, ways: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "offset": event.offset,
        "type": event.type,
        "source": event.source,
        "received": event.received,
        "segment": segment.path.name,
        "connectors": ways,
    }


def _ways(
    event: Event, config: Config | None, saved: Sequence[Books], aside: Sequence[Parked], noted: Sequence[Attempts]
) -> list[dict[str, Any]]:
    """What each connector makes of the event, whether it is configured or only known from its books."""
    known = {lane.connector: lane for lane in saved}
    reasons = {one.connector: f"{one.cause}: {one.reason}" for one in aside if one.offset == event.offset}
    names = sorted({*known, *(config.connectors if config else ())})
    ways = []
    for name in names:
        tried = [one for one in noted if one.connector == name]
        way = {"connector": name, **_routed(event, name, config)}
        state = _state(event.offset, known.get(name), reasons.get(name)) or _outcome(way, tried)
        ways.append(way | {"state": state, "attempts": [_tried(one) for one in tried]})
    return ways


def _outcome(way: dict[str, Any], tried: Sequence[Attempts]) -> str:
    """What became of a settled event that is not parked, if the configuration is the one it met."""
    last = next((one for one in tried if not one.replay), None)
    if last is not None and last.outcome == "parked":
        return "was parked, and then dropped or delivered again"
    if last is not None and last.outcome == "filtered":
        return f"filtered by the connector: {last.answer}"
    if way["wanted"] is False:
        return "unselected"
    if str(way["filters"]).startswith("dropped"):
        return "filtered"
    return "settled" if way["wanted"] is None else "delivered" if tried else "delivered at the first attempt"


def _tried(one: Attempts) -> dict[str, Any]:
    times = {"first": moment(one.first), "last": moment(one.last)}
    return {
        "replay": one.replay or None,
        "attempts": one.attempts,
        "outcome": one.outcome,
        "answer": one.answer,
        **times,
    }


def _routed(event: Event, connector: str, config: Config | None) -> dict[str, Any]:
    """What the configuration, as it is now, does with the event; an event under way may have met an older one."""
    if config is None or connector not in config.connectors:
        return {"configured": None if config is None else False, "wanted": None, "entry": None, "filters": None}
    settings = config.connectors[connector].settings
    entry = Selection(settings.events).explain(event.type)
    wanted = entry is not None and not entry.startswith("!")
    steps = [config.filters[name].plugin(name, config.filters[name].settings) for name in settings.filters]
    made = filtered(event, steps) if wanted and steps else None
    return {"configured": True, "wanted": wanted, "entry": entry, "filters": made}


def filtered(event: Event, steps: Sequence[Filter]) -> str:
    """Say what a chain of filters makes of an event."""
    current, changed = event, []
    for step in steps:
        following = applied(step, current)
        if isinstance(following, Failed):
            return f"parked by {following.reason.removeprefix('filter ')}"
        if following is None:
            return f"dropped by {step.name}"
        if following is not current:
            changed.append(step.name)
        current = following
    return f"changed by {', '.join(changed)}" if changed else "kept"


def _state(offset: int, lane: Books | None, reason: str | None) -> str | None:
    """How far the lane is with the event; None if that is settled and not parked."""
    if lane is None:
        return "never ran"
    if offset < lane.cursor.start:
        return "before the lane began"
    if not lane.is_settled(offset):
        return "pending"
    return f"parked ({reason})" if reason else None


def _put_aside(one: Parked) -> dict[str, Any]:
    whose = {"connector": one.connector, "source": one.source, "offset": one.offset, "type": one.type}
    return whose | {"cause": one.cause, "reason": one.reason, "attempts": one.attempts}


def _lines(one: dict[str, Any]) -> str:
    head = f"offset {one['offset']}: {one['type']} from {one['source']}, received {moment(one['received'])}"
    return "\n".join([f"{head}, in {one['segment']}", *map(_way_line, one["connectors"])])


def _way_line(way: dict[str, Any]) -> str:
    parts = [_wanted(way), way["filters"], way["state"]]
    return "\n".join([f"  {way['connector']}: " + "; ".join(filter(None, parts)), *map(_tried_line, way["attempts"])])


def _tried_line(one: dict[str, Any]) -> str:
    by = f"by replay {one['replay']}: " if one["replay"] else ""
    answer = f", last refusal: {one['answer']}" if one["answer"] else ""
    return (
        f"    {by}{one['outcome']} after {counted(one['attempts'], 'attempt')}, {one['first']} to {one['last']}{answer}"
    )


def _wanted(way: dict[str, Any]) -> str:
    match way:
        case {"configured": None}:
            return "no valid configuration to tell if it is wanted (relay check)"
        case {"configured": False}:
            return "not configured"
        case {"entry": None}:
            return "not wanted: no entry matches"
    return f'{"wanted" if way["wanted"] else "not wanted"} by "{way["entry"]}"'


def _parked_line(one: dict[str, Any]) -> str:
    whose = f"connector {one['connector']}" if one["connector"] else f"source {one['source']}"
    place = "" if one["offset"] is None else f", offset {one['offset']} (no longer in the journal)"
    return f"parked under {whose}{place}: {one['cause']}: {one['reason']}"
