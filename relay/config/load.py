"""Loads conf.d: read, merge, check each table, check the tables against each other; every mistake at once."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from relay.api import Plugin, Settings
from relay.api.internal import find_closest
from relay.config import clashes, crosscheck
from relay.config.address import TcpAddress
from relay.config.files import FoundFiles, Text, read, read_again
from relay.config.line_numbers import KeyPath
from relay.config.merge import Merged, is_off
from relay.config.mistake import ConfigError, Mistake, dotted
from relay.config.model import (
    OWN_TABLES,
    AdminSettings,
    Config,
    Configured,
    ErasureSettings,
    HistorySettings,
    IngestSettings,
    JournalSettings,
    LogSettings,
    MetricsSettings,
    ParkedSettings,
    RuntimeSettings,
)
from relay.config.plugins.registry import KINDS, Registry
from relay.config.tls import TlsError, expiry_warning, server_context
from relay.config.validation_errors import translate, validated
from relay.guests import contained, kind_of

NAME: Final = "[a-z][a-z0-9_-]*"
"""What sources, connectors, filters and alerts may be called."""
TABLES: Final = (*OWN_TABLES, *KINDS)

S = TypeVar("S", bound=Settings)
Tables = Mapping[str, Configured[Any, Any]]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid configuration, and what is allowed but probably not meant in it."""

    config: Config
    warnings: tuple[Mistake, ...]
    disabled: tuple[str, ...]
    """The sources, connectors and alerts that are switched off, such as "connector.heap"."""
    tables: Mapping[KeyPath, Settings]
    """The settings of every table, those that are switched off too, by ("journal",) or ("connector", "heap")."""
    merged: Merged
    """The tables as they were written."""


def load(folders: Sequence[Path], registry: Registry, *, secrets_required: bool = True) -> Loaded:
    """Load the configuration from conf.d folders, of which the first wins where two have a file of the same name.

    With `secrets_required=False` a systemd credential that cannot be read is only a warning where systemd did not start
    this process. Raises `ConfigError` with every mistake. Reads files: the event loop calls it in a thread.
    """
    loaded = _load(read(folders), registry, secrets_required=secrets_required)
    return replace(loaded, config=replace(loaded.config, folders=[*folders]))


def load_again(texts: Sequence[Text], registry: Registry) -> Loaded:
    """Load a configuration out of what its files said: `Config.texts`. Secrets are read where they are now. Raises
    `ConfigError`."""
    return _load(read_again(texts), registry, secrets_required=True)


def _load(reading: FoundFiles, registry: Registry, *, secrets_required: bool) -> Loaded:
    merged = Merged()
    repeated = [mistake for document in reading.documents for mistake in merged.add(document)]
    check = _Check(merged, registry, [*reading.mistakes, *repeated], reading.warnings)
    check.unknown_tables()
    named = {kind: check.named_tables(kind) for kind in KINDS}
    sources, connectors = named["source"], named["connector"]
    runtime = check.own_table("runtime", RuntimeSettings)
    erasure = check.own_table("erasure", ErasureSettings)
    check.between_tables()
    check.doubts(named, lacks=not reading.unread)
    traits = crosscheck.traits_by_name(connectors)
    check.warnings.extend(crosscheck.unknown_keys(connectors, named["filter"], registry.made, merged))
    check.warnings.extend(clashes.files_of_several(traits, merged))
    check.warnings.extend(crosscheck.large_batches(connectors, merged))
    check.mistakes.extend(crosscheck.unknown_kinds(merged))
    check.warnings.extend(crosscheck.parking_without_order(connectors, traits, merged))
    check.mistakes.extend(crosscheck.cuts_of_ordered(connectors, traits, merged))
    if not reading.unread:  # else what seems to be lacking may be in there
        check.lacks(sources, connectors, named["filter"])
        found = crosscheck.events_of_nobody(sources, connectors, named["filter"], registry, merged)
        check.warnings.extend(found)
        check.warnings.extend(crosscheck.kept_users(connectors, erasure, merged))
        check.warnings.extend(crosscheck.one_worker_for_all(connectors, traits, runtime.workers, merged))
    for kind, tables in named.items():
        check.warnings.extend(crosscheck.urls_with_blanks(kind, tables, merged))
        check.secrets(kind, tables, required=secrets_required)
    admin = check.own_table("admin", AdminSettings)
    check.own_secrets(("admin",), admin, required=secrets_required)
    check.warnings.extend(crosscheck.plain_secrets(merged))
    ingest = check.own_table("ingest", IngestSettings)
    check.tls(ingest, required=secrets_required)
    journal = check.own_table("journal", JournalSettings)
    check.warnings.extend(crosscheck.large_bodies(ingest, journal, merged))
    check.warnings.extend(crosscheck.large_memory(journal, merged))
    metrics = check.own_table("metrics", MetricsSettings)
    check.addresses(ingest, admin, metrics)
    disabled = [
        f"{kind}.{name}"
        for kind, tables in named.items()
        for name, table in tables.items()
        if not getattr(table.settings, "enabled", True)
    ]
    config = Config(
        ingest=ingest,
        journal=journal,
        parked=check.own_table("parked", ParkedSettings),
        erasure=erasure,
        runtime=runtime,
        admin=admin,
        metrics=metrics,
        log=check.own_table("log", LogSettings),
        history=check.own_table("history", HistorySettings),
        sources={name: source for name, source in sources.items() if source.settings.enabled},
        connectors={name: connector for name, connector in connectors.items() if connector.settings.enabled},
        filters=named["filter"],
        alerts={name: alert for name, alert in named["alert"].items() if alert.settings.enabled},
        disabled=disabled,
        stale_plugins=check.new_code(named),
        written={
            dotted(key): merged.place(key) or "" for key in merged.origins if len(key) == 2 and key[0] in OWN_TABLES
        },
        texts=[Text(document.name, document.base, document.text) for document in reading.documents],
    )
    if check.mistakes:
        raise ConfigError(sorted(check.mistakes, key=_place), sorted(check.warnings, key=_place))
    every: dict[KeyPath, Settings] = {(name,): getattr(config, name) for name in OWN_TABLES}
    every |= {(kind, name): table.settings for kind, tables in named.items() for name, table in tables.items()}
    return Loaded(config, tuple(sorted(check.warnings, key=_place)), tuple(disabled), every, merged)


def _place(mistake: Mistake) -> tuple[str, int, str]:
    return mistake.file, mistake.line or 0, mistake.key


@dataclass(frozen=True)
class _Check:
    """One load under way: what is looked at, and what has been found."""

    merged: Merged
    registry: Registry
    mistakes: list[Mistake]
    warnings: list[Mistake]

    @cached_property
    def stale(self) -> list[str]:
        """The plugins whose code has changed on disk; read once for a load."""
        return self.registry.stale

    def new_code(self, named: Mapping[str, Tables]) -> list[str]:
        """The plugins whose code has changed on disk, and why that cannot be used."""
        if not self.stale:
            return []
        faults = self.registry.faults()
        used = [(kind, table.plugin.type) for kind, tables in named.items() for table in tables.values()]

        def told(plugin: str) -> str:
            if plugin not in faults:
                return plugin
            is_used = any(self.registry.is_of(plugin, *one) for one in used)
            harm = "with which relay would not start" if is_used else "which cannot be used"
            return f"{plugin}, {harm} ({faults[plugin]})"

        return [told(plugin) for plugin in self.stale]

    def unknown_tables(self) -> None:
        for name in self.merged.table.keys() - set(TABLES):
            if isinstance(self.merged.table[name], dict):
                self._wrong((name,), f"unknown table; known: {', '.join(TABLES)}", find_closest(name, TABLES))
            else:
                owners = [f"[{table}]" for table, model in OWN_TABLES.items() if name in model.model_fields]
                example = f"{' or '.join(owners) or '[connector.heap]'}"
                self._wrong((name,), f"stands above the first table: put it below its table, such as {example}")

    def own_table(self, name: str, model: type[S]) -> S:
        """Check one of the daemon's tables; if it is wrong, the defaults stand in until `load` raises."""
        return self._settings((name,), self.merged.table.get(name, {}), model) or model()

    def named_tables(self, kind: str) -> Tables:
        """Check all tables of a kind; those that are wrong are left out."""
        if not isinstance(self.merged.table.get(kind, {}), dict):
            self._wrong((kind,), f"expected named tables, such as [{kind}.example]")
        configured = [self._named_table(kind, name, table) for name, table in self.merged.named(kind).items()]
        return {table.name: table for table in configured if table}

    def _named_table(self, kind: str, name: str, table: object) -> Configured[Any, Any] | None:
        if not isinstance(table, dict):
            self._wrong((kind, name), f"expected a named table, such as [{kind}.example]")
            return None
        if not re.fullmatch(NAME, name):
            self._wrong((kind, name), "a name is made of a-z, 0-9, _ and -, and starts with a letter")
        plugin = self._plugin(kind, name, table)
        if plugin is None:
            # Check what tables of a kind have in common; which other keys there are, only the type would tell
            _, model = KINDS[kind]
            common = {key: value for key, value in table.items() if key in model.model_fields}
            self._settings((kind, name), common | {"type": ""}, model)
            return None
        known = len(self.mistakes)
        settings = self._settings((kind, name), table, plugin.Settings)
        if len(self.mistakes) > known:
            self._blame_old_code(kind, plugin.type)
        file, line = self.merged.origin((kind, name)) or ("", None)
        return Configured(name, plugin, settings, file, line) if settings else None

    def _blame_old_code(self, kind: str, type: object) -> None:
        """Add to the last mistake that the plugin has new code, which may know better."""
        for plugin in self.stale:
            if self.registry.is_of(plugin, kind, type):
                last = self.mistakes.pop()
                reason = f"{last.reason}; the new code of plugin {plugin} takes a restart"
                self.mistakes.append(replace(last, reason=reason))

    def _plugin(self, kind: str, name: str, table: dict[str, Any]) -> type[Plugin] | None:
        known = self.registry.types(kind)
        wanted = table.get("type")
        listed = f"known {kind} types: {', '.join(sorted(known)) or 'none'}"
        if wanted is None:
            self._wrong((kind, name, "type"), f"is missing; {listed}")
            return None
        if not isinstance(wanted, str) or wanted not in known:
            broken = [f"; plugin {info.name} is broken: {info.reason}" for info in self.registry.suspects(wanted)]
            stale = [f"; the new code of plugin {plugin} takes a restart" for plugin in self.stale]
            new = [f"; plugin {plugin} came after the start, and takes a restart" for plugin in self.registry.unloaded]
            reason = f'there is no {kind} type "{wanted}"; {listed}{"".join([*broken, *stale, *new])}'
            self._wrong((kind, name, "type"), reason, find_closest(wanted, known))
            return None
        return known[wanted]

    def _settings(self, path: KeyPath, table: object, model: type[S]) -> S | None:
        try:
            with contained(until_ctrl_c=True):
                try:
                    return validated(table, model)
                except ValidationError as error:
                    self.mistakes.extend(translate(error, table, model, path, self.merged))
        except Exception as error:  # a plugin's own validator; it must not hide the other mistakes
            self._wrong(path, f"could not be checked, {self._blame(path, error)}")
        return None

    def _blame(self, path: KeyPath, error: Exception) -> str:
        """Whose bug an error is that came of a table; what it says may be a secret."""
        kind, table = str(path[0]), self.merged.named(str(path[0])).get(str(path[-1]))
        owner = self.registry.provider(kind, table.get("type")) if isinstance(table, dict) else "relay"
        return f"which is a bug of {owner}: {kind_of(error)}"

    def doubts(self, named: Mapping[str, Tables], *, lacks: bool) -> None:
        """Report what settings say of themselves, in their plugins' own code; with `lacks`, also what they lack."""
        for kind, tables in named.items():
            for table in tables.values():
                try:
                    with contained(until_ctrl_c=True):
                        self.warnings.extend(crosscheck.doubts(kind, table, self.merged))
                        if kind == "source" and lacks:
                            self.warnings.extend(crosscheck.open_source(table, self.merged))
                except Exception as error:
                    path = kind, table.name
                    reason = f"was not looked at whole, {self._blame(path, error)}"
                    self.warnings.append(self.merged.mistake(path, reason))

    def between_tables(self) -> None:
        """Report what is wrong whatever else there is."""
        self.mistakes.extend(self._unless_wrong(clashes.path_clashes(self.merged)))
        self.warnings.extend(crosscheck.unmatched_entries(self.merged, self.registry.made))
        self.warnings.extend(crosscheck.unknown_triggers(self.merged))
        self.warnings.extend(crosscheck.rivalries(self.registry, self.merged))
        self.warnings.extend(crosscheck.broken_plugins(self.registry))

    def lacks(self, sources: Tables, connectors: Tables, filters: Tables) -> None:
        """Report what is wrong unless there is more."""
        self.mistakes.extend(self._unless_wrong(crosscheck.missing_filters(self.merged)))
        self.mistakes.extend(self._unless_wrong(crosscheck.unknown_subjects(self.merged)))
        self.warnings.extend(crosscheck.unused_filters(self.merged))
        self.warnings.extend(crosscheck.useless_events(connectors, filters, self.merged))
        self.warnings.extend(crosscheck.untaken_events(sources, connectors, self.merged))
        self.warnings.extend(crosscheck.useless_tokens(sources, self.merged))
        self.warnings.extend(crosscheck.idle(self.merged))

    def secrets(self, kind: str, tables: Tables, *, required: bool) -> None:
        """Report unread secrets; in a table that is switched off they do no harm yet."""
        for name, table in self.merged.named(kind).items():
            read_from = tables[name].settings if name in tables else table
            self._unread((kind, name), read_from, required=required, off=is_off(table))

    def tls(self, ingest: IngestSettings, *, required: bool) -> None:
        """Report what of [ingest] tls cannot be read or served, and a certificate that ends soon."""
        path, settings = ("ingest", "tls"), ingest.tls
        if settings is None or self._unread(path, settings, required=required):
            return
        if not any(isinstance(address, TcpAddress) for address in ingest.listen):
            self.warnings.append(self.merged.mistake(path, "there is no TCP address in `listen` to serve it on"))
        try:
            server_context(settings)
            reason = expiry_warning(settings)
        except TlsError as error:
            self._wrong((*path, error.key), error.reason)
            return
        if reason:
            self.warnings.append(self.merged.mistake((*path, "certificate"), reason))

    def addresses(self, ingest: IngestSettings, admin: AdminSettings, metrics: MetricsSettings) -> None:
        """Report addresses that are wanted twice, of the tables that are right by themselves."""
        wrong = {mistake.key.partition(".")[0] for mistake in self.mistakes}
        listeners = {"ingest": ingest.listen, "admin": admin.listen, "metrics": metrics.listen}
        good = {table: listen for table, listen in listeners.items() if table not in wrong}
        self.mistakes.extend(clashes.address_clashes(good, self.merged))

    def own_secrets(self, path: KeyPath, settings: Settings, *, required: bool) -> None:
        """Report unread secrets of one of the daemon's tables."""
        self._unread(path, settings, required=required)

    def _unread(self, path: KeyPath, table: object, *, required: bool, off: bool = False) -> bool:
        """Report doubtful secrets, and those that cannot be used; tell whether there are any of these."""
        self.warnings.extend(crosscheck.doubtful_secrets(path, table, self.merged))
        unread = list(crosscheck.unread_secrets(path, table, self.merged))
        if not unread:
            return False
        fresh = self._unless_wrong(mistake for _, mistake in unread)
        for secret, mistake in unread:
            harmless = off or (not required and crosscheck.is_only_elsewhere(secret))
            if mistake in fresh:
                (self.warnings if harmless else self.mistakes).append(mistake)
        return True

    def _unless_wrong(self, found: Iterable[Mistake]) -> list[Mistake]:
        """Leave out what is about a key of which a mistake is known already."""
        known = {mistake.key for mistake in self.mistakes}
        return [mistake for mistake in found if mistake.key not in known]

    def _wrong(self, path: KeyPath, reason: str, suggestion: str | None = None) -> None:
        self.mistakes.append(self.merged.mistake(path, reason, suggestion))
