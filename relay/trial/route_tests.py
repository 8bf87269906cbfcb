"""Tries the tables [test.NAME]: which events connectors would get, and with which fields. Delivers nothing."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import orjson
from msgspec import Struct, field

from relay.api import Event, Filter, Kind
from relay.api.internal import cut
from relay.catalogue import Selection
from relay.config import Config, RouteTest
from relay.route import Explained, explain_chain, read_id
from relay.trial.filters import open_filters

SHOWN: Final = 20
"""Missed expectations of a connector that are kept."""
VALUE_CHARS: Final = 200


class Missed(Struct, frozen=True):
    """An expectation that an event has not met."""

    event: str
    """The id of the event."""
    expected: str
    came: str
    decided: str
    """The entry of the selection, or the filters, that decided."""


class TriedConnector(Struct):
    """What came of the events in a connector."""

    connector: str
    expected: str
    """The expected outcome."""
    disabled: bool
    outcomes: Counter[str] = field(default_factory=Counter)
    """Events by outcome."""
    missed: int = 0
    """Events that did not meet an expectation."""
    examples: list[Missed] = field(default_factory=list)
    """The first SHOWN expectations that were not met."""
    problem: str = ""
    """Why the connector could not be tried."""

    @property
    def ok(self) -> bool:
        """Whether every event has met every expectation."""
        return not (self.missed or self.problem)

    def note(self, outcome: str, missed: Sequence[Missed]) -> None:
        """Count an event."""
        self.outcomes[outcome] += 1
        self.missed += bool(missed)
        self.examples += missed[: SHOWN - len(self.examples)]


class TriedTest(Struct, frozen=True):
    """The result of a test."""

    test: RouteTest
    events: int
    """Events that were tried."""
    connectors: Sequence[TriedConnector]
    problem: str = ""
    """Why no event, or no further event, could be tried."""

    @property
    def ok(self) -> bool:
        """Whether the test has passed."""
        return not self.problem and all(one.ok for one in self.connectors)


async def try_test(test: RouteTest, events: Iterable[bytes], config: Config, state: Path) -> TriedTest:
    """Try a test. `config`: also with disabled connectors. `state`: the state folder."""
    tried = {
        name: TriedConnector(name, outcome, disabled=f"connector.{name}" in config.disabled)
        for name, outcome in test.settings.expected.items()
    }
    number, problem = 0, ""
    async with AsyncExitStack() as opened:
        ways: dict[str, tuple[Selection, Sequence[Filter]]] = {}
        for name, one in tried.items():
            try:
                filters = await opened.enter_async_context(open_filters(config, name, state))
                ways[name] = Selection(config.list_entries(name)), filters
            except OSError as error:
                one.problem = str(error)
        try:
            for number, body in enumerate(events, 1):
                event = _make_event(body, number, test.settings.given)
                for name, way in ways.items():
                    tried[name].note(*_try_event(event, name, way, test))
        except (OSError, ValueError) as error:
            problem = f"event {number}: {error}" if isinstance(error, _Unreadable) else str(error)
    return TriedTest(test, number, [*tried.values()], problem or ("" if number else "there is no event"))


class _Unreadable(ValueError):
    """Raised for an event that cannot be tried."""


def _make_event(body: bytes, number: int, given: Mapping[str, Any]) -> Event:
    """Make an event with these fields set first. Raises _Unreadable."""
    try:
        data = orjson.loads(body)
    except ValueError as error:
        raise _Unreadable(f"is no JSON: {error}") from None
    if not isinstance(data, dict) or not (data.get("event_type") and isinstance(data["event_type"], str)):
        raise _Unreadable("is no JSON object with an event_type")
    for path, value in given.items():
        *above, name = path.split(".")
        place = data
        for step in above:
            place = place.setdefault(step, {})
            if not isinstance(place, dict):
                raise _Unreadable(f"with: {path} cannot be set, as {step} is no object")
        place[name] = value
    return Event(orjson.dumps(data) if given else body, Kind("test", data["event_type"]), number, time.time())


def _try_event(
    event: Event, connector: str, way: tuple[Selection, Sequence[Filter]], test: RouteTest
) -> tuple[str, list[Missed]]:
    """Return the outcome of an event in a connector, and what it has missed."""
    selection, filters = way
    entry, expected = selection.explain(event.type), test.settings.expected[connector]
    named = read_id(event) or "without id"
    if entry is None or entry.startswith("!"):
        decided = f'the entry "{entry}" excludes {event.type}' if entry else f"no entry of events matches {event.type}"
        outcome, found = "unselected", None
    else:
        found = explain_chain(filters, event)
        outcome, decided = found.outcome, found.said if filters else "there are no filters"
        decided = f'selected by "{entry}"; {decided}'
    if outcome != expected or found is None or found.outcome != "delivered":
        return outcome, [] if outcome == expected else [Missed(named, expected, outcome, decided)]
    missed = _check_fields(found, test.settings.without.get(connector, ()), test.settings.fields.get(connector, {}))
    return outcome, [Missed(named, wanted, came, decided) for wanted, came in missed]


def _check_fields(found: Explained, without: Sequence[str], fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what was expected of the fields of each part, and what came instead."""
    for part in found.events:
        data = orjson.loads(part.body)
        of_part = f" of part {part.part}" if found.split else ""
        for path in without:
            if values := [*_find_values(data, path.split("."))]:
                yield f"no {path}{of_part}", f"{path} = {_write(values[0])}"
        for path, value in fields.items():
            values = [*_find_values(data, path.split("."))]
            if not values:
                yield f"{path}{of_part} = {_write(value)}", f"no {path}"
            elif values[0] != value or isinstance(values[0], bool) != isinstance(value, bool):
                yield f"{path}{of_part} = {_write(value)}", f"{path} = {_write(values[0])}"


def _find_values(value: Any, path: Sequence[str]) -> Iterator[Any]:
    """Yield all values to which a path leads."""
    if not path:
        yield value
        return
    inner: Iterable[Any] = ()
    if path[0] == "*" and isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
    elif isinstance(value, dict) and path[0] in value:
        inner = (value[path[0]],)
    for one in inner:
        yield from _find_values(one, path[1:])


def _write(value: Any) -> str:
    return cut(json.dumps(value, ensure_ascii=False), VALUE_CHARS)
