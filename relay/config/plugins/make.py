"""Makes the plugins of a configuration, before anything else changes for them."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from msgspec import Struct, field

from relay.api import (
    Alert,
    AlertSettings,
    Connector,
    Filter,
    FilterSettings,
    KeyValueStore,
    Plugin,
    Secret,
    Source,
    SourceSettings,
)
from relay.config.merge import list_leaves
from relay.config.mistake import Mistake
from relay.config.model import Config, Configured
from relay.config.plugins.contract import check_made
from relay.config.plugins.traits import Traits, read_traits
from relay.config.redaction import LOG, Redaction
from relay.guests import contained, is_on_loop, name_error, quick

P = TypeVar("P", bound=Plugin)
T = TypeVar("T")
MakeStore = Callable[[Connector], KeyValueStore]


class Failure(Struct, frozen=True):
    """A table for which the plugin's class cannot make an object."""

    kind: str
    table: Configured[Any, Any]
    error: Exception


class Unmade(NamedTuple):
    """What of a configuration cannot be made."""

    failures: Sequence[Failure]
    untried: Sequence[str]
    """Tables such as "connector.heap" that were not tried, because their secrets cannot be read here."""


class NotMade(Exception):
    """Raised when some plugins cannot be made."""

    def __init__(self, failures: Sequence[Failure]) -> None:
        super().__init__(", ".join(f"{one.kind} {one.table.name}" for one in failures))
        self.failures = failures


class Made(Struct, frozen=True):
    """A connector that is not open yet, its traits, and the filters of its lane."""

    connector: Connector
    traits: Traits
    filters: Sequence[Filter]


def make_sources(config: Config) -> list[Source]:
    """Make the sources. Raises NotMade."""
    making = _Making()
    found = [making.source(source) for source in config.sources.values()]
    making.end()
    return [one for one in found if one is not None]


def make_connectors(
    config: Config, names: Iterable[str], folder: Path, worker: int, make_store: MakeStore
) -> dict[str, Made]:
    """Make the connectors of these names with filters of their own. Raises NotMade.

    `folder`: the state folder. `worker`: the number of this process.
    """
    making = _Making()
    found = {name: making.connector(config, name, folder, worker, make_store) for name in names}
    making.end()
    return {name: made for name, made in found.items() if made is not None}


def make_filters(config: Config, connector: str, folder: Path) -> list[Filter]:
    """Make the filters of a connector. Raises NotMade."""
    making = _Making()
    found = [making.filter(config.filters[step], folder) for step in config.get_connector(connector).filters]
    making.end()
    return [step for step in found if step is not None]


def make_alerts(config: Config, names: Iterable[str]) -> dict[str, Alert]:
    """Make the alerts of these names. Raises NotMade."""
    making = _Making()
    found = {name: making.alert(config.alerts[name]) for name in names}
    making.end()
    return {name: alert for name, alert in found.items() if alert is not None}


def find_unmade(config: Config, folder: Path) -> Unmade:
    """Try to make everything of a configuration, except what has secrets that cannot be read here."""
    making, untried = _Making(), []
    for name, source in config.sources.items():
        if _is_whole(source):
            making.source(source)
        else:
            untried.append(f"source.{name}")
    for name, connector in config.connectors.items():
        filters = {step: config.filters[step] for step in connector.settings.filters}
        unread = [f"filter.{step}" for step, table in filters.items() if not _is_whole(table)]
        unread += [] if _is_whole(connector) else [f"connector.{name}"]
        untried += unread
        if not unread:
            making.connector(config, name, folder)
        for step, table in filters.items() if unread else ():
            if f"filter.{step}" not in unread:
                making.filter(table, folder)
    for name, alert in config.alerts.items():
        if _is_whole(alert):
            making.alert(alert)
        else:
            untried.append(f"alert.{name}")
    return Unmade(making.failures, [*dict.fromkeys(untried)])


def make_mistakes(failures: Sequence[Failure]) -> list[Mistake]:
    """Make mistakes of what cannot be made, without the secrets of the tables."""
    return [
        Mistake(
            file=one.table.file,
            line=one.table.line,
            key=f"{one.kind}.{one.table.name}",
            reason=f"cannot be made: {Redaction(one.table.settings).clean(name_error(one.error))}",
        )
        for one in failures
    ]


def _is_whole(table: Configured[Any, Any]) -> bool:
    return not any(isinstance(leaf, Secret) and leaf.problem for _, leaf in list_leaves((), table.settings))


class _Making(Struct, frozen=True):
    failures: list[Failure] = field(default_factory=list)

    def source(self, table: Configured[Source, SourceSettings]) -> Source | None:
        return self._make("source", table, lambda: table.plugin(table.name, table.settings), lambda source: source)

    def alert(self, table: Configured[Alert, AlertSettings]) -> Alert | None:
        return self._make("alert", table, lambda: table.plugin(table.name, table.settings), lambda alert: alert)

    def filter(self, table: Configured[Filter, FilterSettings], folder: Path) -> Filter | None:
        def ready(step: Filter) -> Filter:
            step.folder = folder
            return step

        return self._make("filter", table, lambda: table.plugin(table.name, table.settings), ready)

    def connector(
        self, config: Config, name: str, folder: Path, worker: int = 0, make_store: MakeStore | None = None
    ) -> Made | None:
        table = config.connectors[name]
        steps = [self.filter(config.filters[step], folder) for step in table.settings.filters]
        filters = [step for step in steps if step is not None]

        def ready(connector: Connector) -> Made:
            connector.worker, connector.min_free = worker, config.journal.min_free
            if make_store:
                connector.store = make_store(connector)
            return Made(connector, read_traits(connector), filters)

        made = self._make("connector", table, lambda: table.plugin(name, table.settings, folder=folder), ready)
        return made if len(filters) == len(steps) else None

    def _make(self, kind: str, table: Configured[Any, Any], make: Callable[[], P], ready: Callable[[P], T]) -> T | None:
        """Make an object and prepare it; return None if that fails, which is noted once per table."""
        LOG.note(kind, table.name, table.settings)
        try:
            with quick("__init__", **{kind: table.name}) if is_on_loop() else contained():
                one = make()
                check_made(kind, table.name, one)
                return ready(one)
        except Exception as error:  # a plugin's own code
            if not any(known.table is table for known in self.failures):
                self.failures.append(Failure(kind, table, error))
            return None

    def end(self) -> None:
        if self.failures:
            raise NotMade(self.failures)
