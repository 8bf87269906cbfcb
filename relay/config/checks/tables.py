"""Checks the tables of a configuration one after another, and collects what is wrong and what is doubtful."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast

from msgspec import structs
from pydantic import ValidationError

from relay.api import Plugin, Settings
from relay.api.internal import describe_missing, find_closest
from relay.config.address import Address, TcpAddress
from relay.config.checks import clashes, crosscheck, secrets
from relay.config.line_numbers import KeyPath
from relay.config.merge import Merged, is_off
from relay.config.mistake import Mistake
from relay.config.model import OWN_TABLES, Configured, IngestSettings
from relay.config.plugins.registry import KINDS, Registry
from relay.config.tls import TlsError, expiry_warning, make_server_context
from relay.config.validation_errors import translate, validate
from relay.guests import contained, find_type_name

if TYPE_CHECKING:  # imported late: a start imports what its configuration needs
    from relay.config.route_tests.settings import RouteTestSettings

NAME: Final = "[a-z][a-z0-9_-]*"
"""Names of sources, connectors, filters and alerts."""
SUSPECTS: Final = 2
"""Broken plugins that a mistake about an unknown type names. The warnings name all broken plugins."""
TABLES: Final = (*OWN_TABLES, *KINDS, "test")

S = TypeVar("S", bound=Settings)
Tables = Mapping[str, Configured[Any, Any]]


class RouteTest(NamedTuple):
    """A table [test.NAME], with its place."""

    name: str
    settings: "RouteTestSettings"
    file: str
    line: int | None


@dataclass(frozen=True)
class TableChecks:
    """One load under way, with its findings."""

    merged: Merged
    registry: Registry
    mistakes: list[Mistake]
    warnings: list[Mistake]

    @cached_property
    def stale(self) -> list[str]:
        """Plugins whose code has changed on disk; read once per load."""
        return self.registry.stale

    @cached_property
    def unloaded(self) -> list[str]:
        """Plugins that came after the registry was made; searched once per load."""
        return self.registry.unloaded

    def find_new_code(self, named: Mapping[str, Tables]) -> list[str]:
        """Return the plugins whose code has changed on disk, and why it cannot be used."""
        if not self.stale:
            return []
        faults = self.registry.find_faults()
        used = [(kind, table.plugin.type) for kind, tables in named.items() for table in tables.values()]

        def told(plugin: str) -> str:
            if plugin not in faults:
                return plugin
            is_used = any(self.registry.is_of(plugin, *one) for one in used)
            harm = "with which relay would not start" if is_used else "which cannot be used"
            return f"{plugin}, {harm} ({faults[plugin]})"

        return [told(plugin) for plugin in self.stale]

    def unknown_tables(self) -> None:
        """Report tables that relay does not know, and keys above the first table."""
        for name in self.merged.table.keys() - set(TABLES):
            if isinstance(self.merged.table[name], dict):
                self._add_mistake((name,), f"unknown table; known: {', '.join(TABLES)}", find_closest(name, TABLES))
            else:
                owners = [f"[{table}]" for table, model in OWN_TABLES.items() if name in model.model_fields]
                example = f"{' or '.join(owners) or '[connector.heap]'}"
                self._add_mistake((name,), f"stands above the first table: put it below its table, such as {example}")

    def check_own_table(self, name: str, model: type[S]) -> S:
        """Check one of the daemon's tables. After a mistake the defaults stand in until `load` raises."""
        table = self.merged.table.get(name, {})
        if table == {}:
            return cast("S", model.model_construct())  # the defaults, for which a start builds no validator
        return self._settings((name,), table, model) or model()

    def check_tests(self, folders: Sequence[Path], *, lacks: bool) -> Sequence[RouteTest]:
        """Check the tables [test.NAME], and take them out of the merged tables, which a daemon keeps."""
        if "test" not in self.merged.table:
            return ()
        from relay.config.route_tests import checks, settings

        found: dict[str, RouteTestSettings] = {}
        for name, table in self._list_named("test"):
            if one := self._settings(("test", name), table, settings.RouteTestSettings):
                found[name] = one
        self.mistakes.extend(self._drop_known(checks.find_mistakes(folders, self.merged, lacks=lacks)))
        self.warnings.extend(checks.find_unknown_types(found, self.registry.list_made, self.merged))
        tests = [
            RouteTest(name, one, *(self.merged.find_origin(("test", name)) or ("", None)))
            for name, one in found.items()
        ]
        self.merged.drop("test")
        return tests

    def check_named_tables(self, kind: str) -> Tables:
        """Check all tables of a kind; return those without mistakes."""
        configured = [self._named_table(kind, name, table) for name, table in self._list_named(kind)]
        return {table.name: table for table in configured if table}

    def _list_named(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the named tables of a kind, and report what is no such table."""
        if not isinstance(self.merged.table.get(kind, {}), dict):
            self._add_mistake((kind,), f"expected named tables, such as [{kind}.example]")
        for name, table in self.merged.get_tables(kind).items():
            if not isinstance(table, dict):
                self._add_mistake((kind, name), f"expected a named table, such as [{kind}.example]")
                continue
            if not re.fullmatch(NAME, name):
                self._add_mistake((kind, name), "a name is made of a-z, 0-9, _ and -, and starts with a letter")
            yield name, table

    def _named_table(self, kind: str, name: str, table: dict[str, Any]) -> Configured[Any, Any] | None:
        plugin = self._plugin(kind, name, table)
        if plugin is None:
            # Without its type, check only the settings that all tables of the kind have
            _, model = KINDS[kind]
            common = {key: value for key, value in table.items() if key in model.model_fields}
            self._settings((kind, name), common | {"type": ""}, model)
            return None
        if missing := describe_missing(plugin.requires):
            mistake = self.merged.make_mistake((kind, name, "type"), f"{plugin.type} {missing}")
            (self.warnings if is_off(table) else self.mistakes).append(mistake)
        known = len(self.mistakes)
        settings = self._settings((kind, name), table, plugin.Settings)
        has_mistakes = len(self.mistakes) > known
        for stale in self.stale:
            if has_mistakes and self.registry.is_of(stale, kind, plugin.type):  # its new code may accept these settings
                last = self.mistakes.pop()
                reason = f"{last.reason}; the new code of plugin {stale} takes a restart"
                self.mistakes.append(structs.replace(last, reason=reason))
        file, line = self.merged.find_origin((kind, name)) or ("", None)
        return Configured(name, plugin, settings, file, line) if settings else None

    def _plugin(self, kind: str, name: str, table: dict[str, Any]) -> type[Plugin] | None:
        wanted = table.get("type")
        if isinstance(wanted, str) and (plugin := self.registry.get_type(kind, wanted)):
            return plugin
        known = self.registry.list_names(kind)
        listed = f"known {kind} types: {', '.join(sorted(known)) or 'none'}"
        if wanted is None:
            self._add_mistake((kind, name, "type"), f"is missing; {listed}")
            return None
        suspects = self.registry.find_suspects(wanted)
        broken = [f"; plugin {info.name} is broken: {info.reason}" for info in suspects[:SUSPECTS]]
        broken += [f"; {len(suspects) - SUSPECTS} more plugins are broken"] if len(suspects) > SUSPECTS else []
        stale = [f"; the new code of plugin {plugin} takes a restart" for plugin in self.stale]
        new = [f"; plugin {plugin} came after the start, and takes a restart" for plugin in self.unloaded]
        reason = f'there is no {kind} type "{wanted}"; {listed}{"".join([*broken, *stale, *new])}'
        self._add_mistake((kind, name, "type"), reason, find_closest(wanted, known))
        return None

    def _settings(self, path: KeyPath, table: object, model: type[S]) -> S | None:
        try:
            with contained(until_ctrl_c=True):
                try:
                    return validate(table, model)
                except ValidationError as error:
                    self.mistakes.extend(translate(error, table, model, path, self.merged))
        except Exception as error:  # a plugin's own validator; it must not hide the other mistakes
            self._add_mistake(path, f"could not be checked, {self._blame(path, error)}")
        return None

    def _blame(self, path: KeyPath, error: Exception) -> str:
        """Describe whose bug an error of a table is. Its own message may be a secret."""
        kind, table = str(path[0]), self.merged.get_tables(str(path[0])).get(str(path[-1]))
        owner = self.registry.find_provider(kind, table.get("type")) if isinstance(table, dict) else "relay"
        return f"which is a bug of {owner}: {find_type_name(error)}"

    def check_doubts(self, named: Mapping[str, Tables], *, lacks: bool) -> None:
        """Report the warnings of settings, from their plugins' own code; with `lacks`, also what is missing."""
        for kind, tables in named.items():
            for table in tables.values():
                try:
                    with contained(until_ctrl_c=True):
                        self.warnings.extend(crosscheck.find_doubts(kind, table, self.merged))
                        if kind == "source" and lacks:
                            self.warnings.extend(crosscheck.open_source(table, self.merged))
                except Exception as error:
                    path = kind, table.name
                    reason = f"was not looked at whole, {self._blame(path, error)}"
                    self.warnings.append(self.merged.make_mistake(path, reason))

    def check_between_tables(self) -> None:
        """Report what is wrong between tables in any case."""
        self.mistakes.extend(self._drop_known(clashes.find_path_clashes(self.merged)))
        self.warnings.extend(crosscheck.find_unmatched_entries(self.merged, self.registry.list_made))
        self.warnings.extend(crosscheck.find_unknown_triggers(self.merged))
        self.warnings.extend(crosscheck.find_rivalries(self.registry, self.merged))
        self.warnings.extend(crosscheck.find_broken_plugins(self.registry))

    def check_lacks(self, sources: Tables, connectors: Tables, filters: Tables) -> None:
        """Report what is missing, unless other mistakes explain it."""
        self.mistakes.extend(self._drop_known(crosscheck.find_missing_filters(self.merged)))
        self.mistakes.extend(self._drop_known(crosscheck.find_unknown_subjects(self.merged)))
        self.warnings.extend(crosscheck.find_unused_filters(self.merged))
        self.warnings.extend(crosscheck.find_useless_events(connectors, filters, self.merged))
        self.warnings.extend(crosscheck.find_untaken_events(sources, connectors, self.merged))
        self.warnings.extend(crosscheck.find_useless_tokens(sources, self.merged))
        self.warnings.extend(crosscheck.find_idle(self.merged))

    def check_secrets(self, kind: str, tables: Tables, *, required: bool) -> None:
        """Report unread secrets. Those of a disabled table do no harm yet."""
        for name, table in self.merged.get_tables(kind).items():
            read_from = tables[name].settings if name in tables else table
            self.has_unread((kind, name), read_from, required=required, off=is_off(table))

    def check_tls(self, ingest: IngestSettings, *, required: bool) -> None:
        """Report what of [ingest] tls cannot be read or served, and a certificate that ends soon."""
        path, settings = ("ingest", "tls"), ingest.tls
        if settings is None or self.has_unread(path, settings, required=required):
            return
        if not any(isinstance(address, TcpAddress) for address in ingest.listen):
            self.warnings.append(self.merged.make_mistake(path, "there is no TCP address in `listen` to serve it on"))
        try:
            make_server_context(settings)
            reason = expiry_warning(settings)
        except TlsError as error:
            self._add_mistake((*path, error.key), error.reason)
            return
        if reason:
            self.warnings.append(self.merged.make_mistake((*path, "certificate"), reason))

    def check_addresses(self, listeners: Mapping[str, tuple[Address, ...]]) -> None:
        """Report addresses that two correct tables want."""
        wrong = {mistake.key.partition(".")[0] for mistake in self.mistakes}
        good = {table: listen for table, listen in listeners.items() if table not in wrong}
        self.mistakes.extend(clashes.find_address_clashes(good, self.merged))

    def has_unread(self, path: KeyPath, table: object, *, required: bool, off: bool = False) -> bool:
        """Report doubtful and unusable secrets; return whether any is unusable."""
        self.warnings.extend(secrets.find_doubtful_secrets(path, table, self.merged))
        unread = list(secrets.find_unread_secrets(path, table, self.merged))
        if not unread:
            return False
        fresh = self._drop_known(mistake for _, mistake in unread)
        for secret, mistake in unread:
            harmless = off or (not required and secrets.is_only_elsewhere(secret))
            if mistake in fresh:
                (self.warnings if harmless else self.mistakes).append(mistake)
        return True

    def _drop_known(self, found: Iterable[Mistake]) -> list[Mistake]:
        """Return the mistakes about keys without an earlier mistake."""
        known = {mistake.key for mistake in self.mistakes}
        return [mistake for mistake in found if mistake.key not in known]

    def _add_mistake(self, path: KeyPath, reason: str, suggestion: str | None = None) -> None:
        self.mistakes.append(self.merged.make_mistake(path, reason, suggestion))
