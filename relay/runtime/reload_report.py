"""Compares two configurations, and reports a reload in the log and the history. `Daemon.reload` applies it."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal, Protocol

import structlog

from relay.admin import make_reload_entry
from relay.config import OWN_TABLES, Config, JournalSettings, Mistake
from relay.deliver import Changes
from relay.guests import is_same
from relay.status import (
    EXPIRED,
    REMOVED,
    RefusedReload,
    ReloadChange,
    ReloadResult,
    ReloadWarning,
    Status,
    classify_certificate,
    describe_certificate,
    merge_results,
)
from relay.store import Entry

AT_START: Final = {"ingest.listen", "runtime.workers", *(f"journal.{name}" for name in JournalSettings.PLACE)}
"""Settings that change only with a restart."""
TABLES_AT_START: Final = ("admin", "metrics")
HANGUP: Final = "SIGHUP"
"""Who requests a reload by SIGHUP."""
log = structlog.stdlib.get_logger()


def make_refused(mistakes: Sequence[Mistake | str]) -> ReloadResult:
    """Make the result of a refused reload. A text stands for a mistake that is in no file."""
    return ReloadResult(mistakes=[Mistake(reason=one) if isinstance(one, str) else one for one in mistakes])


def compare_configs(old: Config, new: Config, changes: Changes, restart: Sequence[str]) -> ReloadResult:
    """Make the result of a reload. `restart`: what waits for a restart."""
    own = compare_alerts_and_settings(old, new, restart)
    connectors = [
        *(ReloadChange("connector", name, "added") for name in changes.added),
        *(ReloadChange("connector", name, "changed") for name in changes.changed),
        *(_make_removed("connector", name, new) for name in changes.removed),
    ]
    sources = [
        replace(one, disables=one.what in REMOVED and old.sources[one.name].plugin.disabled_after is not None)
        for one in _compare_tables("source", old.sources, new.sources, new)
    ]
    warnings = [ReloadWarning(f"connector {name}", doubt) for name, doubt in changes.unready.items()]
    return replace(own, changes=[*connectors, *sources, *own.changes], warnings=warnings)


def compare_alerts_and_settings(old: Config, new: Config, restart: Sequence[str]) -> ReloadResult:
    """Compare the alerts and the daemon's own settings of two configurations. `restart`: what waits for a restart."""
    alerts = _compare_tables("alert", old.alerts, new.alerts, new)
    settings = [
        ReloadChange("setting", name, "needs no restart any more" if took_restart else "changed")
        for name, took_restart in _find_different(old, new)
        if name not in restart
    ]
    return ReloadResult([*alerts, *settings], restart)


class Reloading(Protocol):
    """What is reloaded: one process, or several workers as one."""

    config: Config
    refused_reload: RefusedReload | None

    def note(self, entry: Entry) -> None:
        """Write an entry into the history."""

    async def status(self) -> Status:
        """Return the status."""


async def reload_and_report(view: Reloading, reload: Callable[[], Awaitable[ReloadResult]], by: str) -> ReloadResult:
    """Reload, and report the result in log and history, with the pending events of added and removed connectors.

    `by`: who requested it.
    """
    before = await view.status()
    result = await reload()
    if result.ok:
        after = await view.status()
        result = add_pending(result, before, after, view.config.journal.retention)
        expired = [  # the reload may not have renewed a certificate that senders refuse
            ReloadWarning(f"certificate {one.certificate}", describe_certificate(one, after.now))
            for one in after.certificates
            if classify_certificate(one, after.now) == EXPIRED
        ]
        result = merge_results([result, ReloadResult(warnings=expired)])
    # Log the result, however often: whoever sent a SIGHUP learns it nowhere else
    if result.ok:
        log.info("configuration reloaded", changes=result.said)
    else:
        log.error("configuration not reloaded, the old one goes on", mistakes=result.said, always=True)
    entry = make_reload_entry(result, by)
    view.refused_reload = None if result.ok else RefusedReload(at=entry.at, said="; ".join(entry.about["said"]))
    view.note(entry)
    return result


async def catch_bug(reload: Awaitable[ReloadResult]) -> ReloadResult:
    """Return the result of a reload, also if a bug ends it."""
    try:
        return await reload
    except Exception as error:
        log.error("reload failed by a bug", exc_info=error, always=True)
        return make_refused([f"a bug in relay: {type(error).__name__}: {error}; restart it to be sure"])


def add_pending(result: ReloadResult, before: Status, after: Status, retention: float) -> ReloadResult:
    """Add to each connector that was added back or removed what is pending for it."""
    was_gone = {one.connector for one in before.gone}
    left = {one.connector: one.pending for one in after.gone}
    pending = {lane.connector: lane.pending for lane in after.lanes}
    failing = {one.connector: one.erasures for one in after.failing_erasures}

    def counted(change: ReloadChange) -> ReloadChange:
        name = change.name
        if change.kind != "connector" or change.what == "changed":
            return change
        if change.what in REMOVED:
            waiting, erasures = left.get(name, 0), failing.get(name, 0)
            return replace(change, pending=waiting, failing_erasures=erasures, kept_for=retention)
        return replace(change, pending=pending.get(name, 0)) if name in was_gone else change

    return replace(result, changes=[*map(counted, result.changes)])


def _compare_tables(
    kind: Literal["source", "alert"], old: Mapping[str, Any], new: Mapping[str, Any], config: Config
) -> Iterator[ReloadChange]:
    for name in sorted({*old, *new}):
        if name not in new:
            yield _make_removed(kind, name, config)
        elif name not in old:
            yield ReloadChange(kind, name, "added")
        elif not is_same(old[name], new[name]):
            yield ReloadChange(kind, name, "changed")


def _make_removed(kind: Literal["connector", "source", "alert"], name: str, new: Config) -> ReloadChange:
    return ReloadChange(kind, name, "switched off" if f"{kind}.{name}" in new.disabled else "removed")


def find_waiting(used: Config, new: Config) -> list[str]:
    """List what of a new configuration waits for a restart: settings, and the code of plugins."""
    found = [name for name, takes_restart in _find_different(used, new) if takes_restart]
    return [*found, *(f"the new code of plugin {plugin}" for plugin in new.stale_plugins)]


def _find_different(old: Config, new: Config) -> Iterator[tuple[str, bool]]:
    """Yield the differing settings of two configurations, and whether the change needs a restart."""
    for table, model in OWN_TABLES.items():
        before, after = vars(getattr(old, table)), vars(getattr(new, table))
        for field, settings in model.model_fields.items():
            if before[field] != after[field]:
                name, switched = f"{table}.{settings.alias or field}", None in (before[field], after[field])
                at_start = f"{table}.{field}" in AT_START or table in TABLES_AT_START
                yield name, at_start or (name == "ingest.tls" and switched)
