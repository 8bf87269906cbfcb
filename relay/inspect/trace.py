"""Traces an event through every connector: by journal and ledgers, and by the configuration. Pure."""

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from relay.api import Event, Filter, FilterSettings
from relay.catalogue import Selection
from relay.config import Config, Configured
from relay.guests import contained
from relay.inspect.search import PENDING, Aside, Found, LaneProgress
from relay.route import explain_chain, read_id

UNKNOWN: Final = "cannot be known from"
"""The prefix for a chain of filters whose result does not follow from the event."""
GONE: Final = "was parked, and is not parked any more"
IF_UNCHANGED: Final = "if its `events` and `filters` are still the same"
OTHERS: Final = {"filtered": "filtered", "unselected": "unselected"}


class Tried(Struct, frozen=True):
    """Attempts at the event. Times are Unix seconds."""

    replay: int | None
    """The number of the replay that made them."""
    attempts: int
    outcome: str
    """`pending`, `delivered`, `filtered` (by the connector), `parked`; `not delivered`: other attempts, alone or with
    other events, tell the outcome."""
    answer: str
    """The last refusal."""
    first: float
    """Time of the first failure."""
    last: float


class TracePart(Struct, frozen=True):
    """A part of an event that filters split."""

    part: int
    id: str | None
    type: str


class Resent(Struct, frozen=True):
    """A replay that wants the event and has it in its range. Times are Unix seconds."""

    replay: int
    state: str
    """Its state for the event, in words."""
    asked: float
    ended: float | None


class TracedConnector(Struct, frozen=True):
    """The event's way through a connector.

    The route is what the present configuration does with the event. An event under way may have met an older one.
    """

    connector: str
    configured: bool | None
    """None: there is no valid configuration."""
    wanted: bool | None = None
    entry: str | None = None
    """The deciding entry of the selection."""
    filters: str | None = None
    """The result of the filters."""
    parts: Sequence[TracePart] = ()
    """The parts into which the filters split it."""
    disabled: bool = False
    """The connector is configured, and disabled."""
    state: str = ""
    """Its state, in words."""
    attempts: Sequence[Tried] = ()
    replays: Sequence[Resent] = ()


class Traced(Struct, frozen=True):
    """An event in the journal."""

    offset: int
    type: str
    source: str
    received: float
    segment: str
    connectors: Sequence[TracedConnector]


class WorkerTrace(Struct, frozen=True):
    """The findings in one worker's folder."""

    worker: int
    journal: Sequence[Traced]
    parked: Sequence[Aside]
    """Events that are parked only, and not in the journal."""
    problems: Sequence[str]
    """What could not be read, or is left out."""


class Trace(Struct, frozen=True):
    """Everything known of an event. A single process is worker 0."""

    id: str
    workers: Sequence[WorkerTrace]


def trace_all(id: str, found: Sequence[Found], config: Config | None) -> Trace:
    """Trace the found events, by the configuration if it is valid."""
    workers = []
    for worker in found:
        journal = []
        for one in worker.journal:
            lanes = {lane.connector: lane for lane in one.lanes}
            names = sorted({*lanes, *(config.connectors if config else ())})
            ways = [_trace_connector(one.event, name, lanes.get(name), config) for name in names]
            journal.append(Traced(one.offset, one.kind.type, one.kind.source, one.received, one.segment, ways))
        workers.append(WorkerTrace(worker.worker, journal, worker.parked, worker.problems))
    return Trace(id, workers)


def _trace_connector(event: Event, connector: str, lane: LaneProgress | None, config: Config | None) -> TracedConnector:
    way = _trace_route(event, connector, config)
    if lane is None:
        return replace(way, state="never ran")
    is_pending = lane.state == PENDING
    current = {one.replay: one for one in reversed(lane.attempts) if one.replay or is_pending}
    tried = []
    for one in lane.attempts:
        has_ended = one.outcome == "pending" and current.get(one.replay) is not one  # with another outcome
        outcome = "not delivered" if has_ended else one.outcome
        tried.append(Tried(one.replay or None, one.attempts, outcome, one.answer, one.first, one.last))
    resent = []
    for replay in lane.replays if way.wanted is not False else ():
        if Selection(replay.entries).wants(event.type):
            state = "cancelled before it was sent again" if replay.cancelled else "is to be sent again"
            if replay.cursor.is_settled(event.offset):
                outcome = next((one.outcome for one in lane.attempts if one.replay == replay.number), "pending")
                state = outcome if outcome in ("parked", "filtered") else "sent again"
            resent.append(Resent(replay.number, state, replay.asked, replay.ended or replay.cancelled))
    return replace(way, state=lane.state or _describe_outcome(way, lane), attempts=tried, replays=resent)


def _trace_route(event: Event, connector: str, config: Config | None) -> TracedConnector:
    if config is None or connector not in config.connectors:
        is_off = config is not None and f"connector.{connector}" in config.disabled
        return TracedConnector(connector, None if config is None else False, disabled=is_off)
    settings = config.connectors[connector].settings
    entry = Selection(config.list_entries(connector)).explain(event.type)
    wanted = entry is not None and not entry.startswith("!")
    steps = [config.filters[name] for name in settings.filters]
    said, parts = _apply_filters(event, steps) if wanted and steps else (None, ())
    return TracedConnector(
        connector, True, wanted, entry, said, [TracePart(one.part, read_id(one), one.type) for one in parts]
    )


class _Unknown(Exception):
    """Raised for a filter whose result does not follow from the event."""


def _apply_filters(event: Event, steps: Sequence[Configured[Filter, FilterSettings]]) -> tuple[str, Sequence[Event]]:
    """Apply a chain of filters as far as the result follows from the event; return the result and the parts."""
    try:
        found = explain_chain(_make_filters(steps), event)
    except _Unknown as error:
        return f"{UNKNOWN} {error}", ()
    return found.said, found.events if found.split else ()


def _make_filters(steps: Sequence[Configured[Filter, FilterSettings]]) -> Iterator[Filter]:
    """Make filters one after the other. Raises _Unknown."""
    for table in steps:
        # Only the running lane can tell what these filters make of an event
        if table.plugin.stateful:
            raise _Unknown(f"{table.name}, which goes by more than the event")
        if table.plugin.open is not Filter.open:
            raise _Unknown(f"{table.name}, which only a running connector has open")
        try:
            with contained():
                made = table.plugin(table.name, table.settings)
        except Exception as error:  # what it says may be a secret
            raise _Unknown(f"{table.name}, which cannot be made here ({type(error).__name__})") from None
        yield made


def _describe_outcome(way: TracedConnector, lane: LaneProgress) -> str:
    """Describe the outcome of a settled event that is not parked, by the ledgers, else by the present configuration."""
    last = next((one for one in lane.attempts if not one.replay), None)
    if last is not None and last.outcome == "parked":
        return GONE
    if last is not None and last.outcome == "filtered":
        return f"filtered by the connector: {last.answer}"
    if last is not None and last.outcome == "delivered":
        return "delivered"
    if way.wanted is None:
        return "settled"
    outcomes = {"delivered": "delivered" if last else "delivered at the first attempt"} | OTHERS
    possible = [said for outcome, said in outcomes.items() if getattr(lane.counts, outcome)]
    if len(possible) < 2:
        return possible[0] if possible else GONE if lane.counts.parked else "settled"
    filters = str(way.filters)
    if filters.startswith(UNKNOWN) and not last:
        return f"{outcomes['delivered']}, or dropped by a filter"
    by_filters = "filtered" if filters.startswith("dropped") else "delivered"
    guess = outcomes[by_filters if way.wanted else "unselected"]
    return f"{guess}, {IF_UNCHANGED}" if guess in possible else " or ".join(possible)
