"""Chooses who announces what is wrong: alerts, and entries of the history on conditions and finished work.

Alone, a process announces for itself. Where all processes share the partitions, the node that runs partition 0
announces for all. The next one takes over what alerts remember from the store.

How it fails and recovers: while no other node has partition 0, the last one goes on, as during commits that wait for a
standby. While the database is away, it goes on with what it sees of itself.
"""

from collections.abc import Callable, Mapping

from msgspec.structs import replace

from relay.alerts import Alerts
from relay.api import Alert
from relay.config import Config
from relay.runtime.condition_watch import ConditionWatch
from relay.runtime.history_writer import History
from relay.status import Status, mark_unavailable, read_cluster_status
from relay.store import Store, Unavailable
from relay.threads import ADMIN


class Announcer:
    """Says what this process is to announce."""

    def __init__(
        self, store: Store, alerts: Alerts, watch: ConditionWatch, history: History, in_force: Callable[[], Config]
    ) -> None:
        """`in_force` returns the configuration in force."""
        self._store, self.alerts, self._watch, self._history = store, alerts, watch, history
        self._in_force = in_force
        self.announces = history.notes_done = not store.shared_partitions

    async def change(self, config: Config, made: Mapping[str, Alert]) -> None:
        """Switch to a configuration, with its new alerts in `made`."""
        if self.announces:
            await self.alerts.change(config, made)

    async def choose(self, own: Status) -> Status | None:
        """Return the status to announce; None while another process announces. `own`: the status of this node."""
        if not self._store.shared_partitions:
            return own
        runs_first = 0 in own.partitions
        if not (runs_first or self.announces):
            return None
        config = self._in_force()
        try:
            whole = await ADMIN.run(read_cluster_status, self._store, config, config.journal.node_name)
        except Unavailable as error:
            return mark_unavailable(own, str(error), config.journal.max_size) if self.announces else None
        is_held = any(0 in one.partitions for one in whole.nodes if one.node != config.journal.node_name)
        await self._set_announcing(runs_first or (self.announces and not is_held), config)
        return replace(whole, alerts=own.alerts) if self.announces else None

    async def _set_announcing(self, announces: bool, config: Config) -> None:
        if announces == self.announces:
            return
        self.announces = self._history.notes_done = announces
        if announces:
            await self.alerts.change(config, self.alerts.make_alerts(config))
        else:
            await self.alerts.let_go()
            self._watch.forget()
