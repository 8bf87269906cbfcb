"""Access to a state folder without a running relay, or with a relay that does not listen yet."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import click

from relay import state
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
from relay.cli.client import find_login
from relay.cli.state_options import StateOptions, note_history
from relay.inspect import (
    Audit,
    Check,
    DumpPart,
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
from relay.journal import is_locked
from relay.store import Entry, HistoryQuery, Parked, ParkedQuery, Replay


class LocalAccess:
    """Reads and changes the files of a state folder."""

    def __init__(self, place: StateOptions) -> None:
        self._place, self._state = place, place.state

    @property
    def runs(self) -> bool:
        return is_locked(self._state)

    @property
    def _folders(self) -> tuple[Path, Path]:
        return self._state, self._place.path

    def read_parked(self, which: ParkedQuery, *, bodies: bool = True) -> Iterator[Parked]:
        return state.read_parked(self._state, which, bodies=bodies)

    def count_parked(self, which: ParkedQuery) -> int:
        return state.count_parked(self._state, which)

    def drop_parked(self, which: ParkedQuery) -> int:
        return self._changed("parked_dropped", which, state.drop_parked(self._state, which))

    def mark_parked(self, which: ParkedQuery) -> int:
        return self._changed("parked_replayed", which, state.mark_parked(self._state, which))

    def _changed(self, kind: Literal["parked_dropped", "parked_replayed"], which: ParkedQuery, events: int) -> int:
        if events:
            note_history(self._state, make_parked_entry(kind, which, events, find_login()))
        return events

    def list_replays(self) -> list[Replay]:
        return state.list_replays(self._state)

    def ask_replay(self, replay: Replay, worker: int = 0) -> Asked:
        folder, asked = state.make_worker_folder(self._state, worker), replace(replay, asked_by=find_login())
        number = state.ask_replay(folder, asked)
        note_history(self._state, make_replay_entry(asked, number))
        return Asked(number, is_locked(folder))

    def cancel_replay(self, number: int) -> bool:
        cancelled = state.cancel_replay(self._state, number)
        if cancelled:
            note_history(self._state, make_cancel_entry(number, find_login()))
        return cancelled

    def count_replay(self, asked: Stretch) -> ReplayCount:
        config = self._place.config
        try:
            settings = config.get_connector(asked.connector) if config else None
            within = config.list_entries(asked.connector) if config else None
            found = count_all(*self._folders, asked, within)
        except LookupError as error:
            raise click.ClickException(error.args[0]) from None
        return ReplayCount(settings.rate if settings else 0.0, found)

    def list_receipts(self) -> list[Receipt]:
        config = self._place.config
        return list_receipts(self._state, config.erasure.after if config else None)

    def ask_erasure(self, user: User) -> Asked:
        number = state.ask_erasure(self._state, user, find_login())
        note_history(self._state, make_erasure_entry(number, find_login()))
        return Asked(number, self.runs)

    def find_remains(self, user: User) -> Remains:
        return find_remains(*self._folders, user)

    def audit(self) -> Audit:
        config = self._place.config
        return audit_all(*self._folders, config.kept_for if config else None)

    def check_journal(self) -> Check:
        return check_all(*self._folders)

    def dump_journal(self, part: DumpPart) -> Iterator[bytes]:
        return dump_all(*self._folders, part)

    def trace(self, id: str) -> Trace:
        return trace_all(id, search_all(*self._folders, id), self._place.config)

    def read_history(self, query: HistoryQuery) -> Sequence[Entry]:
        return state.read_history(self._state, query)

    def pause(self, connector: str, until: float | None) -> bool:
        self._check_has_run(connector)
        changed, entry = (
            state.pause_connector(self._state, connector, until),
            make_pause_entry(connector, until, find_login()),
        )
        if changed:
            note_history(self._state, entry)
        return changed

    def resume(self, connector: str) -> Resumed:
        self._check_has_run(connector)
        changed = state.resume_connector(self._state, connector)
        if changed:
            note_history(self._state, make_resume_entry(connector, find_login()))
        return Resumed(changed, retried=False)

    def _check_has_run(self, connector: str) -> None:
        if not self._state.is_dir():
            raise click.ClickException(f"there is no state folder {self._state}: --state names it")
        known = sorted(lane.connector for lane in state.read_lanes_if_any(self._state))
        if connector not in known:
            raise click.ClickException(f"no connector {connector} has run; there are: {', '.join(known) or 'none'}")

    def find_removed(self) -> RemovedConnectors:
        config = self._place.config
        if config is None:
            raise click.ClickException(
                "the configuration cannot be read, so nobody knows if it is configured: relay check"
            )
        ledgers = state.read_ledger(self._state).items()
        pending = {name: ledger.pending for name, ledger in ledgers if name not in config.connectors}
        return RemovedConnectors(config.connectors, pending, state.find_failing_erasures(self._state))

    def forget(self, connector: str) -> None:
        note_history(self._state, make_forget_entry(state.forget_connector(self._state, connector), find_login()))
