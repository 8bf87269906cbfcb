"""Passes recorded events through the configuration in force and a new one, and compares. Delivers nothing.

Memory does not grow with the events: each is compared by itself, and only counts and a few examples are kept.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from relay.api import Block, Event, Filter
from relay.api.internal import cut
from relay.catalogue import Selection
from relay.config import Config, ConfigError, Effective, KeyPath, Registry, Text, find_unmade, load_again, make_mistakes
from relay.guests import is_same
from relay.inspect import JournalProgress
from relay.route import Explained, explain_chain, read_id
from relay.store import Store
from relay.trial.diff_values import (
    DAY_S,
    ConnectorDiff,
    Diff,
    DiffExample,
    DiffGroup,
    DiffReason,
    DiffRequest,
    FieldChange,
)
from relay.trial.filters import open_filters

EXAMPLES: Final = 3
MOST_REASONS: Final = 100
"""Reasons of a group that are counted each. A reason may name a value of the event."""
REASONS: Final = 10
"""Reasons that are told, the most frequent ones."""
MOST_FIELDS: Final = 20
VALUE_CHARS: Final = 200
MOST_TYPES: Final = 4096
"""Types whose decision is remembered."""
SELECTING: Final = ("events", "filters")
"""Settings of a connector whose effect is compared."""
GONE: Final = "not configured"
_Settings = Mapping[KeyPath, Effective]
"""The settings of a configuration by their paths."""
GROUPS: Final = ("newly_wanted", "no_longer_wanted", "changed", "failing")


class _Way(NamedTuple):
    """A connector of a configuration."""

    selection: Selection
    filters: Sequence[Filter]

    def decide(self, type: str) -> tuple[bool, str]:
        """Return whether the selection wants a type, and why."""
        entry = self.selection.explain(type)
        if entry is None:
            return False, "unselected: no entry matches"
        return not entry.startswith("!"), f'{"unselected" if entry.startswith("!") else "selected"} by "{entry}"'


@dataclass(slots=True)
class _Group:
    """Events that make the same difference, so far."""

    events: int = 0
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: list[DiffExample] = field(default_factory=list)

    def finish(self) -> DiffGroup:
        reasons = [DiffReason(before, now, events) for (before, now), events in self.reasons.most_common(REASONS)]
        if rest := self.events - sum(one.events for one in reasons):
            reasons.append(DiffReason("other reasons", "other reasons", rest))
        return DiffGroup(self.events, reasons, self.examples)


@dataclass(slots=True)
class _Pair:
    """A connector in both configurations. A side is None where the connector is not configured."""

    before: _Way | None
    now: _Way | None
    same_filters: bool
    as_before: int = 0
    groups: dict[str, _Group] = field(default_factory=lambda: {name: _Group() for name in GROUPS})
    decided: dict[str, tuple[tuple[bool, str], tuple[bool, str]]] = field(default_factory=dict)

    def take(self, worker: int, block: Block) -> None:
        """Compare the events of a block. Tombstones of erased events do not count."""
        same = self.before is self.now
        open_kinds = []
        for place, events in Counter(block.index).items():
            kind = block.kinds[place]
            if kind.is_erased:
                continue
            (before, _), (now, _) = ((False, ""), (False, "")) if same else self._decide(kind.type)
            if before is now and (not before or self.same_filters):
                self.as_before += events
            else:
                open_kinds.append(place)
        if open_kinds:
            numbers = [number for number, place in enumerate(block.index) if place in open_kinds]
            for event in block if len(numbers) == len(block) else block.pick(numbers):
                self._compare(worker, event)

    def _decide(self, type: str) -> tuple[tuple[bool, str], tuple[bool, str]]:
        found = self.decided.get(type)
        if found is None:
            if len(self.decided) >= MOST_TYPES:
                self.decided.clear()
            before, now = (way.decide(type) if way else (False, GONE) for way in (self.before, self.now))
            found = self.decided[type] = before, now
        return found

    def _compare(self, worker: int, event: Event) -> None:
        decided = self._decide(event.type)
        sides = [
            explain_chain(way.filters, event) if way and wanted else None
            for way, (wanted, _) in zip((self.before, self.now), decided, strict=True)
        ]
        name = _classify(*sides)
        if name is None:
            self.as_before += 1
            return
        before, now = (
            f"{why}; {side.said}" if side and way and way.filters else why
            for side, way, (_, why) in zip(sides, (self.before, self.now), decided, strict=True)
        )
        group = self.groups[name]
        group.events += 1
        if (before, now) in group.reasons or len(group.reasons) < MOST_REASONS:
            group.reasons[before, now] += 1
        if len(group.examples) < EXAMPLES:
            fields = [*_compare_parts(sides)] if name == "changed" else []
            group.examples.append(
                DiffExample(
                    worker, event.offset, event.received, event.type, read_id(event), before, now, fields[:MOST_FIELDS]
                )
            )


def _classify(before: Explained | None, now: Explained | None) -> str | None:
    """Return the group of an event; None: all is as before. None for a side: the selection does not want the event."""
    was, will = (side.outcome if side else "unselected" for side in (before, now))
    if will == "parked":
        return None if was == "parked" else "failing"
    if will != "delivered":
        return "no_longer_wanted" if was in ("delivered", "parked") else None
    if was != "delivered":
        return "newly_wanted"
    old, new = ([(one.body, one.type) for one in side.events] if side else [] for side in (before, now))
    return None if old == new else "changed"


def _compare_parts(sides: Sequence[Explained | None]) -> Iterator[FieldChange]:
    """Yield the fields that differ, part by part."""
    before, now = (side.events if side else () for side in sides)
    for number, (old, new) in enumerate(zip_longest(before, now)):
        prefix = f"part {number}: " if max(len(before), len(now)) > 1 else ""
        if old and new and old.type != new.type:
            yield FieldChange(f"{prefix}type", old.type, new.type)
        flat = [dict(_flatten("", one)) for one in (_read(old), _read(new))]
        for path in dict.fromkeys([*flat[0], *flat[1]]):
            values = [each.get(path, "") for each in flat]
            if values[0] != values[1]:
                yield FieldChange(f"{prefix}{path}", *(cut(value, VALUE_CHARS) for value in values))


def _read(event: Event | None) -> Any:
    try:
        return event.data if event else {}
    except ValueError:
        return {}


def _flatten(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield each value within a value, as JSON by its dotted path."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _flatten(f"{path}.{name}" if path else name, inner)
    elif path:
        yield path, orjson.dumps(value).decode()


def diff_events(
    store: Store,
    in_force: Sequence[Text],
    registry: Registry,
    state: Path,
    asked: DiffRequest,
    progress: JournalProgress,
    *,
    secrets_required: bool,
) -> Diff:
    """Compare what two configurations make of recorded events. `in_force`: the files of the one in force.

    `secrets_required`: as for `load`. Raises LookupError for an unknown connector, OSError, Unavailable.
    """
    try:
        old = load_again(in_force, registry, secrets_required=secrets_required).config
    except ConfigError as error:
        raise OSError(f"the configuration in force cannot be read again: {error.mistakes[0]}") from None
    try:
        new = load_again(asked.list_texts(), registry, secrets_required=secrets_required).config
    except ConfigError as error:
        return Diff(mistakes=error.mistakes)
    if mistakes := make_mistakes(find_unmade(new, state).failures):
        return Diff(mistakes=mistakes)
    names = sorted({*old.connectors, *new.connectors})
    for name in asked.connectors:
        if name not in names:
            raise LookupError(f"no connector {name} is configured; there are: {', '.join(names) or 'none'}")
    chosen = [name for name in names if name in asked.connectors or not asked.connectors]
    since = time.time() - DAY_S if asked.since is None else asked.since
    whole = not asked.connectors
    return asyncio.run(_diff(store, old, new, chosen, state, since, asked.limit, progress, is_whole=whole))


async def _diff(
    store: Store,
    old: Config,
    new: Config,
    names: Sequence[str],
    state: Path,
    since: float,
    limit: int | None,
    progress: JournalProgress,
    *,
    is_whole: bool,
) -> Diff:
    both = old, new
    pairs: dict[str, _Pair] = {}
    failed: dict[str, str] = {}
    async with AsyncExitStack() as opened:
        for name in names:
            try:
                pairs[name] = await _open_pair(opened, old, new, name, state)
            except OSError as error:
                failed[name] = str(error)
        events, problems = _read_events(store, since, limit, [*pairs.values()], progress)
    settings = [{one.path: one for one in config.list_effective()} for config in both]
    compared = {table for name in {*old.connectors, *new.connectors} for table in _list_tables(name, both)}
    others = {one.table for each in settings for one in each.values()} - compared if is_whole else ()
    return Diff(
        since=since,
        events=events,
        connectors=[
            _finish(name, pairs.get(name) or _Pair(None, None, same_filters=True), failed.get(name, ""), settings, both)
            for name in names
        ],
        problems=problems,
        other_tables=[_show_change(path, settings) for path in _find_changed(settings, others)],
    )


def _read_events(
    store: Store, since: float, limit: int | None, pairs: Sequence[_Pair], progress: JournalProgress
) -> tuple[int, list[str]]:
    """Compare the events of all partitions; return their number, and what cannot be read. Raises Unavailable."""
    views, read, problems = store.view_all(), 0, list[str]()
    progress.begin(views)
    for view in views:
        log = view.view_log()
        for _, block in progress.follow(view.number, log.read(since=since)):
            if limit is not None and read >= limit:
                break
            if block.received < since:
                continue
            part = block if limit is None else block.slice(0, min(limit - read, len(block)))
            read += sum(not part.kinds[place].is_erased for place in part.index)
            for pair in pairs:
                pair.take(view.number, part)
        problems += log.problems
    return read, problems


async def _open_pair(opened: AsyncExitStack, old: Config, new: Config, name: str, state: Path) -> _Pair:
    """Open the filters of a connector in both configurations, unless both do the same. Raises OSError."""
    chains = [
        [config.filters[step] for step in config.get_connector(name).filters] if name in config.connectors else None
        for config in (old, new)
    ]
    same_filters = is_same(*chains)
    if same_filters and is_same(*(config.list_entries(name) for config in (old, new))):
        return _Pair(None, None, same_filters=True)
    before, now = [
        _Way(Selection(config.list_entries(name)), await opened.enter_async_context(open_filters(config, name, state)))
        if name in config.connectors
        else None
        for config in (old, new)
    ]
    return _Pair(before, now, same_filters=same_filters)


def _finish(
    name: str, pair: _Pair, problem: str, settings: Sequence[_Settings], both: tuple[Config, Config]
) -> ConnectorDiff:
    changed = _find_changed(settings, _list_tables(name, both))
    found = [_show_change(path, settings) for path in changed]
    other = [path for path in changed if path[0] == "connector" and path[2] not in SELECTING]
    is_there = [name in config.connectors for config in both]
    return ConnectorDiff(
        connector=name, as_before=pair.as_before, settings=found, other_settings=bool(other) or is_there != [True] * 2,
        problem=problem, **{group: pair.groups[group].finish() for group in GROUPS},
    )  # fmt: skip


def _list_tables(name: str, both: tuple[Config, Config]) -> set[KeyPath]:
    """Return the tables of a connector and its filters, in both configurations."""
    steps = {step for config in both if name in config.connectors for step in config.get_connector(name).filters}
    return {("connector", name), *(("filter", step) for step in steps)}


def _find_changed(settings: Sequence[_Settings], tables: Collection[KeyPath]) -> list[KeyPath]:
    """Return the settings of these tables that differ. A default that only one side has is no difference."""

    def is_changed(path: KeyPath) -> bool:
        before, now = (each.get(path) for each in settings)
        if before and now:
            return bool(before.value != now.value)
        return any(one.file for one in (before, now) if one)

    return [
        path
        for path in dict.fromkeys(path for each in settings for path, one in each.items() if one.table in tables)
        if is_changed(path)
    ]


def _show_change(path: KeyPath, settings: Sequence[_Settings]) -> FieldChange:
    before, now = (orjson.dumps(each[path].value, default=str).decode() if path in each else "" for each in settings)
    return FieldChange(".".join(map(str, path)), before, now)
