"""What a reload of the configuration comes to: told to whoever asked for it, and to the log."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import structlog

from relay.admin import reload_entry
from relay.config import OWN_TABLES, Config
from relay.deliver import Changes
from relay.guests import is_same
from relay.state import Entry, FailingErasures
from relay.status import EXPIRED, RefusedReload, Status, kind_of_certificate, said_of_certificate, span
from relay.words import counted

AT_START: Final = {"ingest.listen", "journal.path", "runtime.workers"}
"""Settings that are what they were at the start."""
TABLES_AT_START: Final = ("admin", "metrics")
HANGUP: Final = "SIGHUP"
"""Who asks for a reload by that signal."""
NOTHING: Final = "nothing has changed"
GONE: Final = "its path answers 404 now, which ends in Braze disabling a Current"
log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The outcome of a reload."""

    ok: bool
    """Whether the new configuration is in force; if not, the old one is, and all of it."""
    said: Sequence[str]
    """For people: what has changed, what is to be feared of it; or every mistake, with file and line."""


def refused(mistakes: Sequence[object]) -> Reloaded:
    """The new configuration does not come into force."""
    return Reloaded(ok=False, said=[*map(str, mistakes)])


def reloaded(old: Config, new: Config, changes: Changes, restart: Sequence[str]) -> Reloaded:
    """The new configuration is in force, but for what takes a `restart`."""
    said = [*_connectors(changes, new), *_sources(old.sources, new), *alerts_changed(old, new)]
    said += settings(old, new, restart)
    said += [f"warning: {doubt}" for doubt in changes.doubts]
    return Reloaded(ok=True, said=said or [NOTHING])


class Reloading(Protocol):
    """What reloads: one process, or several workers as one."""

    config: Config
    refused_reload: RefusedReload | None

    def note(self, entry: Entry) -> None:
        """Have an entry be written into the history."""

    async def status(self) -> Status:
        """How everything is now."""


async def in_full(view: Reloading, reload: Callable[[], Awaitable[Reloaded]], by: str) -> Reloaded:
    """Reload, say of connectors that go or come back what is pending for them, and log it; `by`: who asked for it."""
    before = await view.status()
    outcome = await reload()
    if outcome.ok:
        after = await view.status()
        pending = _pending(before, after, view.config.journal.retention)
        said = [line + pending.get(line, "") for line in outcome.said]
        outcome = replace(outcome, said=[*said, *_expired(after)])
    _tell(outcome)
    entry = reload_entry(ok=outcome.ok, said=outcome.said, by=by)
    view.refused_reload = None if outcome.ok else RefusedReload(at=entry.at, said="; ".join(entry.about["said"]))
    view.note(entry)
    return outcome


async def guarded(reload: Awaitable[Reloaded]) -> Reloaded:
    """The outcome of a reload, though it fails by a bug."""
    try:
        return await reload
    except Exception as error:
        log.error("reload failed by a bug", exc_info=error, always=True)
        return refused([f"a bug in relay: {type(error).__name__}: {error}; restart it to be sure"])


def _pending(before: Status, after: Status, retention: float) -> dict[str, str]:
    """What is to be added to lines on connectors."""
    running = {lane.connector for lane in after.lanes}
    abandoned = {one.connector: _waiting(one) for one in after.failing_erasures if one.connector not in running}
    kept = f"kept until {span(retention)} old (journal.retention), as long as there is room, in case it is added back"
    pending = {one.connector: f"; {counted(one.pending, 'pending event')} {kept}" for one in after.gone if one.pending}
    removed = {
        f"connector {one.connector}: {_ended(one.disabled)}": pending.get(one.connector, "")
        + abandoned.get(one.connector, "")
        for one in after.gone
    }
    was_gone = {one.connector for one in before.gone}
    added = {
        f"connector {lane.connector}: added": f"; goes on where it was, {counted(lane.pending, 'event')} pending"
        for lane in after.lanes
        if lane.connector in was_gone and lane.pending
    }
    return removed | added


def _expired(status: Status) -> Iterator[str]:
    """The certificates in service that senders refuse: whoever reloads may think that they are renewed."""
    for one in status.certificates:
        if kind_of_certificate(one, status.now) == EXPIRED:
            yield f"warning: {said_of_certificate(one, status.now)}"


def _waiting(one: FailingErasures) -> str:
    what = f"{counted(one.erasures, 'erasure')} that failed there"
    verb = "waits" if one.erasures == 1 else "wait"
    return f"; {what} {verb} until {one.connector} is added back, or relay forget {one.connector} gives up"


def _tell(outcome: Reloaded) -> None:
    """Log it, however often: who sent a SIGHUP hears of it nowhere else."""
    if outcome.ok:
        log.info("configuration reloaded", changes=outcome.said)
    else:
        log.error("configuration not reloaded, the old one goes on", mistakes=outcome.said, always=True)


def _connectors(changes: Changes, new: Config) -> Iterator[str]:
    for what, names in (("added", changes.added), ("changed", changes.changed)):
        yield from (f"connector {name}: {what}" for name in names)
    for name in changes.removed:
        yield f"connector {name}: {_ended(f'connector.{name}' in new.disabled)}"


def _ended(is_disabled: bool) -> str:
    return "switched off" if is_disabled else "removed"


def _sources(old: Mapping[str, Any], config: Config) -> Iterator[str]:
    new = config.sources
    for name in sorted({*old, *new}):
        if name not in new:
            yield f"warning: source {name}: {_ended(f'source.{name}' in config.disabled)}; {GONE}"
        elif name not in old:
            yield f"source {name}: added"
        elif not is_same(old[name], new[name]):
            yield f"source {name}: changed"


def alerts_changed(old: Config, new: Config) -> Iterator[str]:
    """The alerts by which two configurations differ."""
    for name in sorted({*old.alerts, *new.alerts}):
        if name not in new.alerts:
            yield f"alert {name}: {_ended(f'alert.{name}' in new.disabled)}"
        elif name not in old.alerts:
            yield f"alert {name}: added"
        elif not is_same(old.alerts[name], new.alerts[name]):
            yield f"alert {name}: changed"


def waiting(used: Config, new: Config) -> list[str]:
    """What of a new configuration waits for a restart, by what the process was started with: settings, and the code of
    plugins."""
    found = [name for name, takes_restart in _different(used, new) if takes_restart]
    return [*found, *(f"the new code of plugin {plugin}" for plugin in new.stale_plugins)]


def settings(old: Config, new: Config, restart: Sequence[str]) -> Iterator[str]:
    """The daemon's own settings that are others now than they were, and what still takes a `restart`."""
    for name, took_restart in _different(old, new):
        if name not in restart:
            yield f"{name}: {'needs no restart any more' if took_restart else 'changed'}"
    yield from (f"{name}: takes a restart" for name in restart)


def _different(old: Config, new: Config) -> Iterator[tuple[str, bool]]:
    """The settings by which two configurations differ, and whether it takes a restart to go from one to the other."""
    for table in OWN_TABLES:
        before, after = vars(getattr(old, table)), vars(getattr(new, table))
        for key in after:
            if before[key] != after[key]:
                name, switched = f"{table}.{key}", None in (before[key], after[key])
                at_start = name in AT_START or table in TABLES_AT_START
                yield name, at_start or (name == "ingest.tls" and switched)
