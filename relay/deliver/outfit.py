"""What a lane is made of: its connector, its filters, its place in the journal."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from relay.api import Connector, ConnectorSettings, Filter, FilterSettings
from relay.catalogue import Selection
from relay.config import Config, Configured
from relay.deliver.lane import LiveLane
from relay.journal import Cursor, Journal, State, unsettled
from relay.route import Route

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Plan:
    """What a configuration says of one lane. Lanes with equal plans do the same."""

    connector: type[Connector]
    settings: ConnectorSettings
    filters: Sequence[tuple[str, type[Filter], FilterSettings]]


def plans(config: Config) -> dict[str, Plan]:
    """The lanes that a configuration wants, by name."""
    return {name: _plan(one, config.filters) for name, one in config.connectors.items()}


def _plan(
    one: Configured[Connector, ConnectorSettings], filters: Mapping[str, Configured[Filter, FilterSettings]]
) -> Plan:
    steps = [(name, filters[name].plugin, filters[name].settings) for name in one.settings.filters]
    return Plan(one.plugin, one.settings, steps)


@dataclass(frozen=True, slots=True)
class Changes:
    """By what two configurations differ: names of connectors."""

    added: Sequence[str]
    changed: Sequence[str]
    removed: Sequence[str]
    kept: Sequence[str]


def compare(old: Mapping[str, Plan], new: Mapping[str, Plan]) -> Changes:
    """Find out which lanes have to be made, made anew, or ended."""
    both = [name for name in new if name in old]
    return Changes(
        added=[name for name in new if name not in old],
        changed=[name for name in both if new[name] != old[name]],
        removed=[name for name in old if name not in new],
        kept=[name for name in both if new[name] == old[name]],
    )


class Outfitter:
    """Makes lanes over one journal."""

    def __init__(
        self, journal: Journal, state: State, folder: Path, worker: int, save_soon: Callable[[], None]
    ) -> None:
        self._journal, self._state, self._folder = journal, state, folder
        self._worker, self._save_soon = worker, save_soon

    def connector(self, name: str, plan: Plan) -> Connector:
        """The connector, not open yet."""
        connector = plan.connector(name, plan.settings, folder=self._folder)
        connector.worker = self._worker
        return connector

    async def lane(self, connector: Connector, plan: Plan) -> LiveLane:
        """The lane of an open connector, from where the one before it was saved last."""
        steps = [step(name, settings) for name, step, settings in plan.filters]
        return LiveLane(
            connector,
            plan.settings,
            Route(Selection(plan.settings.events), steps),
            await self._cursor(connector.name, plan.settings.from_),
            journal=self._journal,
            state=self._state,
            save_soon=self._save_soon,
        )

    async def _cursor(self, connector: str, start: str | float) -> Cursor:
        head = self._journal.head
        cursor = await self._state.cursor(connector)
        if cursor is None:
            offset = await self._journal.offset_of(start)
            return Cursor(offset, offset)
        if max([cursor.position, *(stop for _, stop in cursor.ahead)]) > head:
            log.error("the journal is older than the cursor; starting at its head", connector=connector, head=head)
            return Cursor(head, head)
        await self._unpark_pending(connector, cursor)
        return cursor

    async def _unpark_pending(self, connector: str, cursor: Cursor) -> None:
        """What was parked right before a crash, and is not settled by the saved cursor, is about to be tried again."""
        oldest = max(cursor.position, self._journal.oldest)
        await self._state.unpark(connector, unsettled(oldest, self._journal.head, cursor.ahead))
