"""Reloads the configuration: what differs, and what is said of it in the log and the history."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal, Protocol

import structlog

from relay.admin import reload_entry
from relay.config import OWN_TABLES, Config
from relay.deliver import Changes
from relay.guests import is_same
from relay.state import Entry
from relay.status import (
    EXPIRED,
    REMOVED,
    RefusedReload,
    ReloadChange,
    ReloadResult,
    ReloadWarning,
    Status,
    kind_of_certificate,
    merged_results,
    said_of_certificate,
)

AT_START: Final = {"ingest.listen", "journal.path", "runtime.workers"}
"""Settings that are what they were at the start."""
TABLES_AT_START: Final = ("admin", "metrics")
HANGUP: Final = "SIGHUP"
"""Who asks for a reload by that signal."""
log = structlog.stdlib.get_logger()


def refused(mistakes: Sequence[object]) -> ReloadResult:
    """The new configuration does not come into force."""
    return ReloadResult(mistakes=[*map(str, mistakes)])


def reloaded(old: Config, new: Config, changes: Changes, restart: Sequence[str]) -> ReloadResult:
    """The new configuration is in force, but for what takes a `restart`."""
    own = changed_alerts_and_settings(old, new, restart)
    connectors = [*_connectors(changes, new), *_changed("source", old.sources, new.sources, new)]
    warnings = [ReloadWarning(f"connector {name}", doubt) for name, doubt in changes.doubts.items()]
    return replace(own, changes=[*connectors, *own.changes], warnings=warnings)


def changed_alerts_and_settings(old: Config, new: Config, restart: Sequence[str]) -> ReloadResult:
    """The alerts and the daemon's own settings by which two configurations differ; `restart`: what takes a restart."""
    alerts = _changed("alert", old.alerts, new.alerts, new)
    return ReloadResult([*alerts, *_changed_settings(old, new, restart)], restart)


class Reloading(Protocol):
    """What reloads: one process, or several workers as one."""

    config: Config
    refused_reload: RefusedReload | None

    def note(self, entry: Entry) -> None:
        """Have an entry be written into the history."""

    async def status(self) -> Status:
        """How everything is now."""


async def in_full(view: Reloading, reload: Callable[[], Awaitable[ReloadResult]], by: str) -> ReloadResult:
    """Reload, count what is pending for connectors that were added back or removed, and log the result; `by`: who
    asked for it."""
    before = await view.status()
    result = await reload()
    if result.ok:
        after = await view.status()
        result = with_pending(result, before, after, view.config.journal.retention)
        result = merged_results([result, ReloadResult(warnings=[*_expired(after)])])
    _log(result)
    entry = reload_entry(result, by)
    view.refused_reload = None if result.ok else RefusedReload(at=entry.at, said="; ".join(entry.about["said"]))
    view.note(entry)
    return result


async def guarded(reload: Awaitable[ReloadResult]) -> ReloadResult:
    """The outcome of a reload, though it fails by a bug."""
    try:
        return await reload
    except Exception as error:
        log.error("reload failed by a bug", exc_info=error, always=True)
        return refused([f"a bug in relay: {type(error).__name__}: {error}; restart it to be sure"])


def with_pending(result: ReloadResult, before: Status, after: Status, retention: float) -> ReloadResult:
    """Say of each connector that was added back or removed what waits for it."""
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


def _expired(status: Status) -> Iterator[ReloadWarning]:
    """The certificates in service that senders refuse: whoever reloads may think that they are renewed."""
    for one in status.certificates:
        if kind_of_certificate(one, status.now) == EXPIRED:
            yield ReloadWarning(f"certificate {one.certificate}", said_of_certificate(one, status.now))


def _log(result: ReloadResult) -> None:
    """Log it, however often: who sent a SIGHUP hears of it nowhere else."""
    if result.ok:
        log.info("configuration reloaded", changes=result.said)
    else:
        log.error("configuration not reloaded, the old one goes on", mistakes=result.said, always=True)


def _connectors(changes: Changes, new: Config) -> Iterator[ReloadChange]:
    yield from (ReloadChange("connector", name, "added") for name in changes.added)
    yield from (ReloadChange("connector", name, "changed") for name in changes.changed)
    yield from (_removed("connector", name, new) for name in changes.removed)


def _changed(
    kind: Literal["source", "alert"], old: Mapping[str, Any], new: Mapping[str, Any], config: Config
) -> Iterator[ReloadChange]:
    for name in sorted({*old, *new}):
        if name not in new:
            yield _removed(kind, name, config)
        elif name not in old:
            yield ReloadChange(kind, name, "added")
        elif not is_same(old[name], new[name]):
            yield ReloadChange(kind, name, "changed")


def _removed(kind: Literal["connector", "source", "alert"], name: str, new: Config) -> ReloadChange:
    return ReloadChange(kind, name, "switched off" if f"{kind}.{name}" in new.disabled else "removed")


def waiting(used: Config, new: Config) -> list[str]:
    """What of a new configuration waits for a restart, by what the process was started with: settings, and the code of
    plugins."""
    found = [name for name, takes_restart in _different(used, new) if takes_restart]
    return [*found, *(f"the new code of plugin {plugin}" for plugin in new.stale_plugins)]


def _changed_settings(old: Config, new: Config, restart: Sequence[str]) -> Iterator[ReloadChange]:
    """The daemon's own settings that are others now than they were, but for those that still take a `restart`."""
    for name, took_restart in _different(old, new):
        if name not in restart:
            yield ReloadChange("setting", name, "needs no restart any more" if took_restart else "changed")


def _different(old: Config, new: Config) -> Iterator[tuple[str, bool]]:
    """The settings by which two configurations differ, and whether it takes a restart to go from one to the other."""
    for table in OWN_TABLES:
        before, after = vars(getattr(old, table)), vars(getattr(new, table))
        for key in after:
            if before[key] != after[key]:
                name, switched = f"{table}.{key}", None in (before[key], after[key])
                at_start = name in AT_START or table in TABLES_AT_START
                yield name, at_start or (name == "ingest.tls" and switched)
