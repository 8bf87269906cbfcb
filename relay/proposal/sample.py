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


class _Tally(Struct):
    """What has passed so far."""

    read: int = 0
    selected: int = 0
    filtered: int = 0
    failed: int = 0
    failure: str = ""
    complete: bool = True
    types: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Event]] = field(default_factory=dict)
    """The first events of each type."""

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
            self._keep(routed.wanted)

    def _keep(self, wanted: Block) -> None:
        for place, events in Counter(wanted.index).items():
            kind = wanted.kinds[place].type
            self.types[kind] += events
            if kind in self.examples or len(self.examples) < MOST_TYPES:
                kept = self.examples.setdefault(kind, [])
                numbers = (number for number, one in enumerate(wanted.index) if one == place)
                if room := EXAMPLES - len(kept):
                    kept += wanted.pick([*islice(numbers, room)])

    def choose_examples(self) -> Iterator[Example]:
        """Yield examples of the most frequent types, first one of each."""
        ranked = [self.examples.get(kind, []) for kind, _ in self.types.most_common()]
        for event in islice(filter(None, chain(*zip_longest(*ranked))), EXAMPLES):
            body = msgspec.Raw(event.body)
            yield Example(
                offset=event.offset, received=event.received, source=event.source, type=event.type, event=body
            )


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
        failed=tally.failed, failure=tally.failure, types=types, examples=[*tally.choose_examples()],
        problems=problems,
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
