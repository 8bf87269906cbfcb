"""A relay in memory: a configuration and events in, outcomes and books out. No port, no journal, no waiting."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from time import time
from types import TracebackType
from typing import Self

from relay.api import (
    Batch,
    Block,
    Connector,
    Denied,
    Event,
    Filter,
    Kind,
    Malformed,
    Plugin,
    Request,
    Source,
    Unreadable,
)
from relay.catalogue import Selection
from relay.config import Redaction, Registry, Text, load_again, make_connectors, make_sources
from relay.deliver import AttemptResult, judge
from relay.ingest import check_decoded
from relay.route import Route
from relay.testing.build import make_batch
from relay.testing.division import divide
from relay.testing.memory_store import MemoryStore

FILE = "test.toml"


@dataclass(slots=True)
class ConnectorBooks:
    """What has become of each event for one connector. Each event is in exactly one of the lists."""

    delivered: list[Event] = field(default_factory=list)
    """In the form in which the connector got them."""
    parked: list[tuple[Event, str]] = field(default_factory=list)
    """With the reasons."""
    filtered: list[Event] = field(default_factory=list)
    """Dropped by a filter, or skipped by the connector."""
    unselected: list[Event] = field(default_factory=list)
    """Of types that the connector does not select."""
    waiting: list[Event] = field(default_factory=list)
    """Tried again at the next `deliver`."""
    reason: str = ""
    """Why events wait; empty if nothing was tried yet."""
    unauthorized: bool = False
    """Whether the destination does not accept relay."""


class MemoryRelay:
    """A relay for tests: `async with MemoryRelay(conf, Chat, folder=tmp_path) as relay:`.

    It selects, filters, batches and judges as the daemon does. It delivers only when `deliver` is called, one attempt
    at a time, and never waits: `retry`, `rate`, `order_by` and `concurrency` have no effect.
    """

    def __init__(self, conf: str, *types: type[Plugin], folder: Path) -> None:
        """Raise ConfigError for a wrong configuration. `conf`: the text of conf.d, TOML. `types`: classes of plugins
        beside the installed ones. `folder`: the state folder, for connectors that write files."""
        registry = Registry.discover(())
        registry.provide(types)
        loaded = load_again([Text(FILE, FILE, conf)], registry)
        self.warnings = [one.reason for one in loaded.warnings]
        """What `relay check` warns of."""
        self.unreadable: list[Unreadable] = []
        """Entries of good requests that are no events."""
        self.books = {name: ConnectorBooks() for name in loaded.config.connectors}
        """The books by the name of the connector."""
        self._config, self._folder = loaded.config, folder
        self._offsets, self._seen = count(), set[tuple[str, str]]()

    async def __aenter__(self) -> Self:
        config, self._plugins = self._config, AsyncExitStack()
        self._sources = {str(source.settings.path): source for source in make_sources(config)}
        made = make_connectors(config, self.books, self._folder, 0, lambda connector: MemoryStore())
        self._connectors = {name: one.connector for name, one in made.items()}
        self._routes = {name: Route(Selection(config.list_entries(name)), one.filters) for name, one in made.items()}
        opened: list[Filter | Connector] = []
        for one in made.values():
            opened += (*one.filters, one.connector)
        async with self._plugins:
            for plugin in opened:
                self._plugins.push_async_callback(plugin.release)
                async with asyncio.timeout(plugin.settings.open_timeout):
                    await plugin.open()
            self._plugins = self._plugins.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._plugins.aclose()

    def connector(self, name: str) -> Connector:
        """Return the open connector of this name. Raises KeyError."""
        return self._connectors[name]

    def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None, query: str = "") -> int:
        """Take a request of a sender; return the status of the answer.

        An exception of the source other than Denied and Malformed, for which senders get 500, is raised.
        """
        source = self._sources.get(path)
        if source is None:
            return 404
        request = Request(body, headers or {}, query)
        try:
            source.authorize(request)
            source.verify(request)
            answer = source.respond(request)
            return answer.status if answer is not None else self._take(source, request)
        except Denied:
            return 401
        except Malformed:
            return 400

    def accept(self, *bodies: bytes, source: str = "braze") -> None:
        """Take events as if a source of this name had just accepted them. A body is as for `make_batch`."""
        self._route([(event.kind, event.body) for event in make_batch(bodies, source=source)])

    async def deliver(self) -> None:
        """Make one attempt at all events that wait, in batches as configured."""
        for name, books in self.books.items():
            connector = self._connectors[name]
            events, books.waiting, books.reason, books.unauthorized = books.waiting, [], "", False
            most = connector.settings.batch.events
            for first in range(0, len(events), most):
                batch = Batch([Block.of(events[first : first + most])])
                async for part, result in divide(self._attempt_by(connector), batch):
                    _enter(books, part, result)

    def _take(self, source: Source, request: Request) -> int:
        decoded = check_decoded(source.decode(request), source.name, set(), [])
        self.unreadable += decoded.unreadable
        found = zip(decoded.kinds, map(bytes, decoded.bodies), decoded.ids or [""] * len(decoded.bodies), strict=True)
        fresh = []
        for kind, body, event_id in found:
            key = source.name, event_id
            if not (source.settings.dedupe and event_id and key in self._seen):
                fresh.append((kind, body))
                self._seen.add(key)
        self._route(fresh)
        return source.accepted_status

    def _route(self, found: list[tuple[Kind, bytes]]) -> None:
        now = time()
        events = {
            offset: Event(body, kind, offset, now) for (kind, body), offset in zip(found, self._offsets, strict=False)
        }
        for name, books in self.books.items() if events else ():
            routed = self._routes[name](Block.of([*events.values()]))
            wanted = [] if routed.wanted is None else routed.wanted.events()
            books.waiting += wanted
            books.filtered += [events[offset] for offset in routed.filtered]
            books.parked += [(failed.event, failed.reason) for failed in routed.failed]
            others = {one.offset for one in wanted}.union(routed.filtered, (one.event.offset for one in routed.failed))
            books.unselected += [event for offset, event in events.items() if offset not in others]

    def _attempt_by(self, connector: Connector) -> Callable[[Batch], Awaitable[AttemptResult]]:
        async def attempt(batch: Batch) -> AttemptResult:
            try:
                async with asyncio.timeout(connector.settings.timeout):
                    answer: object = await connector.deliver(batch)
            except Exception as error:  # any exception is an outcome to a lane
                answer = error
            return judge(len(batch), answer, Redaction(connector.settings).clean, batch)  # type: ignore[arg-type]

        return attempt


def _enter(books: ConnectorBooks, batch: Batch, result: AttemptResult) -> None:
    """Write the result of an attempt into the books."""
    books.delivered += [batch[number] for number in result.find_delivered(len(batch))]
    books.parked += [(batch[one.number], one.reason) for one in result.refused]
    books.filtered += [batch[number] for number in result.skipped]
    for deferral in result.deferred:
        books.waiting += [batch[number] for number in deferral.numbers]
        books.reason = books.reason or deferral.reason
        books.unauthorized = books.unauthorized or deferral.unauthorized
