"""Compares two configurations: what a reload changes, and what waits for a restart. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from msgspec.structs import replace

from relay.config import OWN_TABLES, Config, JournalSettings
from relay.guests import is_same
from relay.status import REMOVED, ReloadChange, ReloadResult, ReloadWarning, Status
from relay.store import FailingErasures

if TYPE_CHECKING:  # commands ask for changes, and do without the lanes
    from relay.deliver import Changes

AT_START: Final = {"ingest.listen", "runtime.workers", *(f"journal.{name}" for name in JournalSettings.PLACE)}
"""Settings that change only with a restart."""
TABLES_AT_START: Final = ("admin", "metrics")


def compare_configs(old: Config, new: Config, changes: "Changes", restart: Sequence[str]) -> ReloadResult:
    """Make the result of a reload. `restart`: what waits for a restart."""
    own = compare_alerts_and_settings(old, new, restart)
    connectors = [
        *(ReloadChange("connector", name, "added") for name in changes.added),
        *(_make_changed_connector(name, old, new) for name in changes.changed),
        *(_make_removed("connector", name, new) for name in changes.removed),
    ]
    sources = [
        replace(one, disables=one.what in REMOVED and old.sources[one.name].plugin.disabled_after is not None)
        for one in _compare_tables("source", old.sources, new.sources, new)
    ]
    warnings = [ReloadWarning(f"connector {name}", doubt) for name, doubt in changes.unready.items()]
    return replace(own, changes=[*connectors, *sources, *own.changes], warnings=warnings)


def compare_alerts_and_settings(old: Config, new: Config, restart: Sequence[str]) -> ReloadResult:
    """Compare filters, alerts and the daemon's own settings. `restart`: what waits for a restart."""
    filters = _compare_tables("filter", old.filters, new.filters, new)
    alerts = _compare_tables("alert", old.alerts, new.alerts, new)
    settings = [
        _make_changed(name, took_restart=took_restart)
        for name, took_restart in _find_different(old, new)
        if name not in restart
    ]
    return ReloadResult([*filters, *alerts, *settings], restart)


def add_pending(
    result: ReloadResult,
    before: Status,
    pending: Mapping[str, int],
    failing: Iterable[FailingErasures],
    retention: float,
) -> ReloadResult:
    """Add to each connector that was added back or removed what is pending for it.

    `pending`: the pending events of each connector. `retention`: seconds for which the journal keeps them.
    """
    was_gone = {one.connector for one in before.gone}
    erasures = {one.connector: one.erasures for one in failing}

    def counted(change: ReloadChange) -> ReloadChange:
        name = change.name
        if change.kind != "connector" or change.what == "changed":
            return change
        waiting = pending.get(name, 0)
        if change.what in REMOVED:
            return replace(change, pending=waiting, failing_erasures=erasures.get(name, 0), kept_for=retention)
        return replace(change, pending=waiting) if name in was_gone else change

    return replace(result, changes=[*map(counted, result.changes)])


def _compare_tables(
    kind: Literal["source", "filter", "alert"], old: Mapping[str, Any], new: Mapping[str, Any], config: Config
) -> Iterator[ReloadChange]:
    for name in sorted({*old, *new}):
        if name not in new:
            yield _make_removed(kind, name, config)
        elif name not in old:
            yield ReloadChange(kind, name, "added")
        elif not is_same(old[name], new[name]):
            yield ReloadChange(kind, name, "changed")


def _make_changed_connector(name: str, old: Config, new: Config) -> ReloadChange:
    """Name the keys that differ. A connector also changes with a filter that it has, or with the code of its plugin."""
    before, after = (vars(one.connectors[name].settings) for one in (old, new))
    keys = [key for key in after if before.get(key) != after[key]]
    return ReloadChange("connector", name, "changed", keys=keys)


def _make_changed(name: str, *, took_restart: bool) -> ReloadChange:
    if name.startswith("console.") and name != "console.launch":
        return ReloadChange("setting", name, "changed, for the console alone")
    return ReloadChange("setting", name, "needs no restart any more" if took_restart else "changed")


def _make_removed(kind: Literal["connector", "source", "filter", "alert"], name: str, new: Config) -> ReloadChange:
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
