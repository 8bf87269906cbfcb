"""Access to a state folder without a running relay, or with a relay that does not listen yet."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import click
from msgspec.structs import replace

from relay.admin import (
    make_cancel_entry,
    make_erasure_entry,
    make_forget_entry,
    make_parked_entry,
    make_pause_entry,
    make_replay_entry,
    make_resume_entry,
)
from relay.api import User
from relay.cli.access.contract import Asked, RemovedConnectors, Resumed
from relay.cli.state_options import StateOptions, note_history
from relay.client import find_login
from relay.config import PLUGIN_FOLDERS, Registry
from relay.inspect import (
    UNTOLD,
    Audit,
    Check,
    DumpPart,
    JournalProgress,
    Receipt,
    Remains,
    ReplayCount,
    Stretch,
    Trace,
    audit_all,
    check_all,
    count_all,
    dump_all,
    find_remains,
    list_receipts,
    search_all,
    trace_all,
)
from relay.status import make_idle_status, merge_parts, read_ledgers
from relay.store import (
    Entry,
    HistoryQuery,
    Parked,
    ParkedQuery,
    Replay,
    Store,
    find_configured,
    name_partition,
)

if TYPE_CHECKING:
    from relay.trial import Diff, DiffRequest


class LocalAccess:
    """Reads and changes the store."""

    def __init__(self, place: StateOptions) -> None:
        self._place, self._store = place, place.store

    @property
    def _changed_store(self) -> Store:
        """The store, for a change. Raises Unavailable if relay goes on elsewhere, where the change belongs."""
        self._store.check_complete()
        return self._store

    @property
    def runs(self) -> bool:
        return self._store.view().is_in_use()

    def name_part(self, worker: int) -> str:
        return name_partition(self._store, worker)

    def read_parked(self, which: ParkedQuery, *, bodies: bool = True) -> Iterator[Parked]:
        return self._store.parked.read(which, bodies=bodies)

    def count_parked(self, which: ParkedQuery) -> int:
        return self._store.parked.count(which)

    def drop_parked(self, which: ParkedQuery) -> int:
        return self._changed("parked_dropped", which, sum(self._changed_store.parked.drop(which)))

    def mark_parked(self, which: ParkedQuery) -> int:
        return self._changed("parked_replayed", which, sum(self._changed_store.parked.mark(which)))

    def _changed(self, kind: Literal["parked_dropped", "parked_replayed"], which: ParkedQuery, events: int) -> int:
        if events:
            note_history(self._store, make_parked_entry(kind, which, events, find_login()))
        return events

    def list_replays(self) -> list[Replay]:
        return self._store.replays.read()

    def ask_replay(self, replay: Replay, worker: int = 0) -> Asked:
        asked = replace(replay, asked_by=find_login())
        number = self._changed_store.replays.ask(asked, worker)
        note_history(self._store, make_replay_entry(asked, number))
        return Asked(number, self._store.view(worker).is_in_use())

    def cancel_replay(self, number: int) -> bool:
        cancelled = self._changed_store.replays.cancel(number)
        if cancelled:
            note_history(self._store, make_cancel_entry(number, find_login()))
        return cancelled

    def count_replay(self, asked: Stretch, progress: JournalProgress = UNTOLD) -> ReplayCount:
        config = self._place.config
        try:
            settings = config.get_connector(asked.connector) if config else None
            within = config.list_entries(asked.connector) if config else None
            found = count_all(self._store, asked, within, progress)
        except LookupError as error:
            raise click.ClickException(error.args[0]) from None
        return ReplayCount(settings.rate if settings else 0.0, found)

    def list_receipts(self) -> list[Receipt]:
        config = self._place.config
        return list_receipts(self._store.erasures, config.erasure.after if config else None)

    def ask_erasure(self, user: User) -> Asked:
        number = self._changed_store.erasures.ask(user, find_login())
        note_history(self._store, make_erasure_entry(number, find_login()))
        return Asked(number, self.runs)

    def find_remains(self, user: User, progress: JournalProgress = UNTOLD) -> Remains:
        return find_remains(self._store, user, progress)

    def audit(self, progress: JournalProgress = UNTOLD) -> Audit:
        config = self._place.config
        return audit_all(self._store, config.kept_for if config else None, progress)

    def check_journal(self, progress: JournalProgress = UNTOLD) -> Check:
        return check_all(self._store, progress)

    def dump_journal(self, part: DumpPart, progress: JournalProgress = UNTOLD) -> Iterator[bytes]:
        return dump_all(self._store, part, progress)

    def trace(self, id: str, progress: JournalProgress = UNTOLD) -> Trace:
        return trace_all(id, search_all(self._store, id, progress), self._place.config)

    def diff(self, asked: "DiffRequest", progress: JournalProgress = UNTOLD) -> "Diff":
        from relay.trial import diff_events  # late: one command needs it

        place = self._place
        if place.config is None:
            raise click.ClickException("the configuration in force cannot be read: relay check")
        registry = Registry.discover(place.plugin_folders or PLUGIN_FOLDERS)
        texts, state = place.config.texts, place.state.absolute()
        try:
            return diff_events(self._store, texts, registry, state, asked, progress, secrets_required=False)
        except LookupError as error:
            raise click.ClickException(error.args[0]) from None

    def read_history(self, query: HistoryQuery) -> Sequence[Entry]:
        return self._store.history.read(query)

    def pause(self, connector: str, until: float | None) -> bool:
        self._check_has_run(connector)
        changed = self._changed_store.pauses.pause(connector, until)
        if changed:
            note_history(self._store, make_pause_entry(connector, until, find_login()))
        return changed

    def resume(self, connector: str) -> Resumed:
        self._check_has_run(connector)
        changed = self._changed_store.pauses.resume(connector)
        if changed:
            note_history(self._store, make_resume_entry(connector, find_login()))
        return Resumed(changed, retried=False)

    def _check_has_run(self, connector: str) -> None:
        if not self._store.shared_partitions and not self._place.state.is_dir():
            raise click.ClickException(f"there is no state folder {self._place.state}: --state names it")
        lanes = (lane for partition in self._store.view_all() for lane in partition.read_lanes_if_any())
        known = sorted({lane.connector for lane in lanes})
        if connector not in known:
            raise click.ClickException(f"no connector {connector} has run; there are: {', '.join(known) or 'none'}")

    def find_removed(self) -> RemovedConnectors:
        config = self._place.config
        if config is None:
            raise click.ClickException(
                "the configuration cannot be read, so nobody knows if it is configured: relay check"
            )
        configured = {**dict.fromkeys(config.connectors, ()), **find_configured(self._store.read_processes())}
        seen = merge_parts([make_idle_status(0, {}, {}, config), *read_ledgers(self._store, (), config)])
        removed = {one.connector: one for one in seen.gone if one.connector not in configured}
        return RemovedConnectors(configured, removed, self._store.erasures.find_failing())

    def forget(self, connector: str) -> None:
        note_history(self._store, make_forget_entry(self._changed_store.forget(connector), find_login()))
