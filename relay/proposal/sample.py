"""Finds what a connector would have had of the events of the last hour. Changes nothing."""

import time
from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct, field

from relay.api import Block, Event
from relay.catalogue import Selection
from relay.config import Config
from relay.proposal.values import EventSample, Example
from relay.route import Route
from relay.store import Store
from relay.trial import open_filters

HOUR_S: Final = 3600.0
READ_S: Final = 15.0
"""Seconds that reading and filtering may take. Each partition has its part."""
EXAMPLES: Final = 3
MOST_TYPES: Final = 500
"""Types that are counted each, the most frequent ones."""

_Pair = tuple[Event, Event | None]
"""An event as the connector would get it; and as it came, if that is another event."""


class _Tally(Struct):
    """What has passed so far."""

    read: int = 0
    selected: int = 0
    filtered: int = 0
    changed: int = 0
    failed: int = 0
    failure: str = ""
    complete: bool = True
    types: Counter[str] = field(default_factory=Counter)
    unchanged: dict[str, list[_Pair]] = field(default_factory=dict)
    """The first events of each type that no filter changes."""
    different: dict[str, list[_Pair]] = field(default_factory=dict)
    """The first events of each type that filters change."""

    def take(self, block: Block, route: Route) -> None:
        """Count a block of the journal."""
        self.read += len(block)
        selected = Route(route.selection)(block).wanted
        if selected is None:
            return
        routed = route(selected)
        self.selected += len(selected)
        self.filtered += len(routed.filtered)
        self.failed += len(routed.failed)
        if routed.failed and not self.failure:
            self.failure = routed.failed[0].reason
        if routed.wanted is not None:
            for place, events in Counter(routed.wanted.index).items():
                self.types[routed.wanted.kinds[place].type] += events
            if routed.wanted is selected:
                self._keep_first(selected)
            else:
                self._compare(routed.wanted, selected)

    def _keep_first(self, wanted: Block) -> None:
        """Keep the first events of each type, of a block that filters leave as it is."""
        for place in {*wanted.index}:
            numbers = (number for number, one in enumerate(wanted.index) if one == place)
            for event in wanted.pick([*islice(numbers, EXAMPLES)]):
                _add(self.unchanged, (event, None))

    def _compare(self, wanted: Block, selected: Block) -> None:
        """Compare the events behind the filters with those before them."""
        originals, changed = {one.offset: one for one in selected}, set[int]()
        for event in wanted:
            before = originals[event.offset]
            if (event.body, event.type) == (before.body, before.type):
                _add(self.unchanged, (event, None))
            else:
                changed.add(event.offset)  # once, into however many parts a filter splits the event
                _add(self.different, (event, before))
        self.changed += len(changed)

    def choose_examples(self) -> Iterator[Example]:
        """Yield examples of the most frequent types, first one of each. Events that the filters change come first."""
        kinds = [kind for kind, _ in self.types.most_common()]
        rows = (zip_longest(*(known.get(kind, []) for kind in kinds)) for known in (self.different, self.unchanged))
        pairs = filter(None, chain.from_iterable(chain.from_iterable(rows)))
        for event, before in islice(pairs, EXAMPLES):
            yield Example(
                offset=event.offset, received=event.received, source=event.source, type=event.type,
                event=msgspec.Raw(event.body), changed=before is not None,
                before=msgspec.Raw(before.body if before else b"null"),
            )  # fmt: skip


def _add(examples: dict[str, list[_Pair]], pair: _Pair) -> None:
    """Add an example, unless there are enough."""
    kind = pair[0].type
    if kind in examples or len(examples) < MOST_TYPES:
        kept = examples.setdefault(kind, [])
        if len(kept) < EXAMPLES:
            kept.append(pair)


async def take_sample(store: Store, config: Config, connector: str, state: Path) -> EventSample:
    """Find what a connector would have had, as far as its filters open and the journal can be read."""
    since, tally, problems = time.time() - HOUR_S, _Tally(), list[str]()
    try:
        async with open_filters(config, connector, state) as filters:
            _read_hour(store, since, Route(Selection(config.list_entries(connector)), filters), tally, problems)
    except OSError as error:  # whoever asks learns of the mistakes all the same
        tally.complete = False
        problems.append(str(error))
    types = dict(tally.types.most_common(MOST_TYPES))
    if rest := tally.types.total() - sum(types.values()):
        types[""] = rest
    return EventSample(
        since=since, complete=tally.complete, read=tally.read, selected=tally.selected, filtered=tally.filtered,
        changed=tally.changed, failed=tally.failed, failure=tally.failure, types=types,
        examples=[*tally.choose_examples()], problems=problems,
    )  # fmt: skip


def _read_hour(store: Store, since: float, route: Route, tally: _Tally, problems: list[str]) -> None:
    """Count the events of all partitions, and note what cannot be read. Raises Unavailable."""
    views = store.view_all()
    for view in views:
        log, late = view.view_log(), time.monotonic() + READ_S / len(views)
        for _, block in log.read(since=since):
            if block.received >= since:
                tally.take(block, route)
            if time.monotonic() > late:
                tally.complete = False
                break
        problems += log.problems
