"""Makes lanes: the connector, the filters, and the place in the journal."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct, field

from relay.api import Connector, ConnectorSettings, Filter, FilterSettings
from relay.api.internal import LeftBehind
from relay.api.transport import outage
from relay.catalogue import Selection, drop_opt_in
from relay.config import Config, ConfigError, Made, NotMade, Redaction, make_connectors, make_mistakes
from relay.deliver.lane import Taps
from relay.deliver.live_lane import LiveLane
from relay.guests import call_guest, find_reason, is_same, read_text
from relay.route import Route
from relay.store import Cursor, Log, Pause, State

PROBE_S: Final = 5.0


class LanePlan(Struct, frozen=True):
    """What a configuration says of one lane. Lanes with equal plans do the same."""

    connector: type[Connector]
    settings: ConnectorSettings
    filters: Sequence[tuple[str, type[Filter], FilterSettings]]


def make_plans(config: Config) -> dict[str, LanePlan]:
    """Return the lanes that a configuration wants, by name."""
    filters = {name: (name, one.plugin, one.settings) for name, one in config.filters.items()}
    return {
        name: LanePlan(one.plugin, one.settings, [filters[step] for step in one.settings.filters])
        for name, one in config.connectors.items()
    }


class Changes(Struct, frozen=True):
    """The names of connectors by which two configurations differ."""

    added: Sequence[str]
    changed: Sequence[str]
    removed: Sequence[str]
    unready: Mapping[str, str] = field(default_factory=dict)
    """A sentence for each new lane that is not open, or cannot reach its destination now, by connector."""


def compare(old: Mapping[str, LanePlan], new: Mapping[str, LanePlan]) -> Changes:
    """Return which lanes to make, to make anew, and to end."""
    return Changes(
        added=[name for name in new if name not in old],
        changed=[name for name in new if name in old and not is_same(old[name], new[name])],
        removed=[name for name in old if name not in new],
    )


class LaneFactory:
    """Makes lanes over one journal."""

    def __init__(
        self,
        journal: Log,
        state: State,
        folder: Path,
        worker: int,
        save_soon: Callable[[], None],
        may_begin: asyncio.Event,
        taps: Mapping[str, Taps],
    ) -> None:
        """Lanes deliver nothing until `may_begin` is set. `taps`: those of each connector, made when asked for."""
        self._journal, self._state, self._folder = journal, state, folder
        self._worker, self._save_soon, self._may_begin, self._taps = worker, save_soon, may_begin, taps

    def make_plugins(self, config: Config, names: Iterable[str]) -> dict[str, Made]:
        """Make the connectors of these names and the filters of their lanes. Raises ConfigError, and makes none
        then."""
        try:
            return make_connectors(config, names, self._folder, self._worker, self._state.make_plugin_store)
        except NotMade as error:
            raise ConfigError(make_mistakes(error.failures)) from None

    def make_lane(self, made: Made, plan: LanePlan, cursor: Cursor, held: Pause | None, behind: LeftBehind) -> LiveLane:
        """Make a lane from this cursor on. `held`: its pause by an admin. `behind`: threads that have to be back before
        the lane begins."""
        lane = LiveLane(
            made,
            plan.settings,
            Route(Selection(drop_opt_in(plan.settings.events, plan.connector.accepted_types)), made.filters),
            cursor,
            journal=self._journal,
            state=self._state,
            save_soon=self._save_soon,
            behind=behind,
            may_begin=self._may_begin,
        )
        lane.hold(held)
        lane.taps = self._taps[lane.name]
        return lane

    async def find_cursor(self, connector: str, start: str | float) -> Cursor:
        """Return where a connector goes on: at its saved cursor or, without one, at `start`. Raises Unavailable.

        `start`: "now", "oldest", or a Unix time.
        """
        if (cursor := await self._state.load_cursor(connector)) is not None:
            return cursor
        if isinstance(start, float):
            offset = await self._journal.find_offset(start)
        elif start == "oldest":
            offset = self._journal.oldest
        else:
            head = self._journal.head
            offset = head if self._state.now is None else min(head, max(self._state.now, self._journal.oldest))
            if (begun := await self._state.find_begun(connector)) is not None:  # other nodes have known it for longer
                offset = min(offset, await self._journal.find_offset(begun))
        return Cursor(offset, offset)


async def find_unready(lanes: Sequence[LiveLane]) -> dict[str, str]:
    """Return a sentence for each lane that is not open, or cannot reach its destination now, by connector. A
    destination that is down may come back."""
    found = await asyncio.gather(*map(_explain_unready, lanes))
    return {lane.name: doubt for lane, doubt in zip(lanes, found, strict=True) if doubt}


async def _explain_unready(lane: LiveLane) -> str:
    connector, doubt = lane.connector, "is not open yet"
    try:
        async with asyncio.timeout(PROBE_S):
            if not (doubt := await lane.wait_until_tried()):
                await call_guest(connector.probe, "probe", {"connector": connector.name}, PROBE_S)
    except Exception as error:
        met = outage.find_outcome(error)
        why = Redaction(connector.settings).clean(read_text(met.reason) if met else find_reason(error))
        return f"connector {connector.name}: {doubt or why}"
    return f"connector {connector.name}: {doubt}; tried again by itself" if doubt else ""
