"""What a lane is made of: its connector, its filters, its place in the journal."""

import asyncio
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from relay.api import Connector, ConnectorSettings, Filter, FilterSettings
from relay.catalogue import Selection
from relay.config import Config, Configured
from relay.deliver.live import LiveLane
from relay.deliver.redaction import Redaction
from relay.journal import Cursor, Journal, State, unsettled
from relay.route import Route

RELEASE_S: Final = 5.0
PROBE_S: Final = 5.0
log = structlog.stdlib.get_logger()


class NotOpened(Exception):
    """A connector cannot be opened: which, and why."""


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
    doubts: Sequence[str] = ()
    """What is to be feared of connectors that are new: they cannot be reached now."""


def compare(old: Mapping[str, Plan], new: Mapping[str, Plan]) -> Changes:
    """Find out which lanes have to be made, made anew, or ended."""
    return Changes(
        added=[name for name in new if name not in old],
        changed=[name for name in new if name in old and new[name] != old[name]],
        removed=[name for name in old if name not in new],
    )


class Outfitter:
    """Makes lanes over one journal."""

    def __init__(
        self, journal: Journal, state: State, folder: Path, worker: int, save_soon: Callable[[], None]
    ) -> None:
        self._journal, self._state, self._folder = journal, state, folder
        self._worker, self._save_soon = worker, save_soon

    def _connector(self, name: str, plan: Plan) -> Connector:
        connector = plan.connector(name, plan.settings, folder=self._folder)
        connector.worker = self._worker
        return connector

    async def opened(self, wanted: Mapping[str, Plan]) -> dict[str, Connector]:
        """The connectors, all of them open, or none. Raises NotOpened."""
        found: dict[str, Connector] = {}
        try:
            for name, plan in wanted.items():
                found[name] = self._connector(name, plan)
                await found[name].open()
        except BaseException as error:
            for connector in found.values():
                await release(connector)
            if isinstance(error, Exception):
                why = Redaction(plan.settings).clean(f"{type(error).__name__}: {error}")
                raise NotOpened(f"connector {name} cannot be opened: {why}") from None
            raise
        return found

    async def lanes(self, connectors: Mapping[str, Connector], wanted: Mapping[str, Plan]) -> dict[str, LiveLane]:
        """The lanes of open connectors, paused ones held from the start; or the connectors are closed. Raises
        sqlite3.Error."""
        try:
            made = {name: await self._lane(connector, wanted[name]) for name, connector in connectors.items()}
            pauses = await self._state.pauses()
        except BaseException:
            for connector in connectors.values():
                await release(connector)
            raise
        for name, lane in made.items():
            lane.hold(pauses.get(name))
        return made

    async def _lane(self, connector: Connector, plan: Plan) -> LiveLane:
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


async def release(connector: Connector) -> None:
    """Close a connector; whatever happens, this comes to an end."""
    try:
        async with asyncio.timeout(RELEASE_S):
            await connector.release()
    except Exception as error:
        told = Redaction(connector.settings).clean("".join(traceback.format_exception(error)))
        log.error("connector did not close", connector=connector.name, exception=told)


async def doubts(connectors: Iterable[Connector]) -> list[str]:
    """Why some of them cannot be reached now, each in a sentence. A destination may be down and come back."""
    found = await asyncio.gather(*map(_doubt, connectors))
    return [doubt for doubt in found if doubt]


async def _doubt(connector: Connector) -> str:
    try:
        async with asyncio.timeout(PROBE_S):
            await connector.probe()
    except Exception as error:
        why = Redaction(connector.settings).clean(str(error) or type(error).__name__)
        return f"connector {connector.name}: {why}"
    return ""
