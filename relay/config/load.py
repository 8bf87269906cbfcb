"""Loads conf.d: reads, merges and checks the tables, by themselves and against each other. Reports all mistakes at
once."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from msgspec import Struct, structs
from pydantic import ValidationError

from relay.api import Settings
from relay.config.checks import clashes, crosscheck, secrets
from relay.config.checks.tables import RouteTest, TableChecks, Tables
from relay.config.console.folder import ConfFolders, read_folders
from relay.config.console.settings import ConsoleSettings
from relay.config.effective import list_effective
from relay.config.files import NONE_PROPOSED, FoundFiles, Text, read_again, read_files
from relay.config.line_numbers import KeyPath
from relay.config.merge import Merged
from relay.config.mistake import ConfigError, Mistake, format_path
from relay.config.model import (
    OWN_TABLES,
    AdminSettings,
    Config,
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
from relay.config.validation_errors import translate, validate


class Loaded(Struct, frozen=True):
    """A valid configuration, with warnings of what is probably not meant."""

    config: Config
    warnings: tuple[Mistake, ...]
    disabled: tuple[str, ...]
    """Disabled sources, connectors and alerts, such as "connector.heap"."""
    tables: Mapping[KeyPath, Settings]
    """The settings of every table, including disabled ones, by ("journal",) or ("connector", "heap")."""
    merged: Merged
    """The tables as written, but for the tests."""
    connectors: Tables
    """The connectors, including disabled ones."""
    tests: Sequence[RouteTest] = ()
    """The tables [test.NAME]. A daemon does not keep them."""


def load(
    folders: ConfFolders | Sequence[Path],
    registry: Registry,
    *,
    secrets_required: bool = True,
    proposed: Mapping[Path, str | None] = NONE_PROPOSED,
) -> Loaded:
    """Load the configuration from conf.d folders. The first folder wins where two have a file of the same name.

    With `secrets_required=False` this process is not the service: a systemd credential that it does not have, and a
    console's folder that it may not read, are only warnings. `proposed`: texts that count in place of files; None:
    there is no such file. Raises `ConfigError` with every mistake. Reads files: the event loop calls it in a thread.
    """
    where = folders if isinstance(folders, ConfFolders) else ConfFolders(folders)
    found = read_folders(where, proposed, must_read=secrets_required)
    loaded = _load(found, registry, where.in_order, secrets_required=secrets_required)
    return structs.replace(loaded, config=replace(loaded.config, folders=where))


def load_again(texts: Sequence[Text], registry: Registry, *, secrets_required: bool = True) -> Loaded:
    """Load a configuration from the texts of its files (`Config.texts`). Secrets are read where they are now.

    `secrets_required`: as for `load`. Raises `ConfigError`.
    """
    return _load(read_again(texts), registry, (), secrets_required=secrets_required)


def load_journal(folders: ConfFolders) -> JournalSettings:
    """Load [journal] of a configuration with mistakes elsewhere. Without PostgreSQL in it, the defaults stand in.

    Raises `ConfigError` if [journal] itself has mistakes.
    """
    merged = Merged()
    for document in read_folders(folders, must_read=False).documents:
        merged.add(document)
    table = merged.get_tables("journal")
    if table.get("backend") != "postgres":
        return JournalSettings()
    try:
        return validate(table, JournalSettings)
    except ValidationError as error:
        raise ConfigError(translate(error, table, JournalSettings, ("journal",), merged)) from None


def load_console(folders: ConfFolders, *, whole: bool = False) -> ConsoleSettings:
    """Load [console] of a configuration with mistakes elsewhere. Raises `ConfigError` if [console] itself has mistakes.

    `whole`: whether to raise it as well for a file that cannot be read, and may hold a user.
    """
    merged, reading = Merged(), read_files(folders.others)
    for document in reading.documents:
        merged.add(document)
    if whole and reading.mistakes:
        raise ConfigError(reading.mistakes)
    table = merged.get_tables("console")
    try:
        return validate(table, ConsoleSettings)
    except ValidationError as error:
        raise ConfigError(translate(error, table, ConsoleSettings, ("console",), merged)) from None


def _load(reading: FoundFiles, registry: Registry, folders: Sequence[Path], *, secrets_required: bool) -> Loaded:
    """`folders`: where files of events are that tests name; empty: nobody looks for such files."""
    merged = Merged()
    repeated = [mistake for document in reading.documents for mistake in merged.add(document)]
    check = TableChecks(merged, registry, [*reading.mistakes, *repeated], reading.warnings)
    check.unknown_tables()
    tests = check.check_tests(folders, lacks=not reading.unread)
    named = {kind: check.check_named_tables(kind) for kind in KINDS}
    sources, connectors = named["source"], named["connector"]
    runtime = check.check_own_table("runtime", RuntimeSettings)
    erasure = check.check_own_table("erasure", ErasureSettings)
    journal = check.check_own_table("journal", JournalSettings)
    check.check_between_tables()
    check.check_doubts(named, lacks=not reading.unread)
    traits = crosscheck.read_all_traits(connectors)
    check.warnings.extend(crosscheck.find_unknown_keys(connectors, named["filter"], registry.list_made, merged))
    check.warnings.extend(clashes.find_shared_files(traits, merged))
    check.warnings.extend(crosscheck.find_large_batches(connectors, merged))
    check.warnings.extend(crosscheck.find_late_starts(connectors, merged))
    check.mistakes.extend(crosscheck.find_unknown_kinds(merged))
    check.warnings.extend(crosscheck.find_parking_without_order(connectors, traits, merged))
    check.mistakes.extend(crosscheck.find_ordered_batches(connectors, traits, merged))
    if not reading.unread:  # else what seems to be lacking may be in there
        check.check_lacks(sources, connectors, named["filter"])
        found = crosscheck.find_missing_events(sources, connectors, named["filter"], registry, merged)
        check.warnings.extend(found)
        check.warnings.extend(crosscheck.find_kept_users(connectors, erasure, merged))
        check.warnings.extend(crosscheck.find_single_workers(connectors, traits, runtime, journal, merged))
    for kind, tables in named.items():
        check.warnings.extend(crosscheck.find_blanks_in_urls(kind, tables, merged))
        check.check_secrets(kind, tables, required=secrets_required)
    admin = check.check_own_table("admin", AdminSettings)
    check.has_unread(("admin",), admin, required=secrets_required)
    check.warnings.extend(secrets.find_plain_secrets(merged))
    ingest = check.check_own_table("ingest", IngestSettings)
    check.check_tls(ingest, required=secrets_required)
    check.warnings.extend(crosscheck.find_large_bodies(ingest, journal, merged))
    check.warnings.extend(crosscheck.find_large_memory(journal, merged))
    check.has_unread(("journal",), journal, required=secrets_required)
    if merged.get_tables("journal").get("backend") == "postgres":
        from relay.config.checks import shared_journal  # late, as below: a start imports what its configuration needs

        check.mistakes.extend(shared_journal.find_mistakes(traits, merged))
        check.warnings.extend(shared_journal.find_doubts(journal, runtime, traits, merged))
    metrics = check.check_own_table("metrics", MetricsSettings)
    listeners = {"ingest": ingest.listen, "admin": admin.listen, "metrics": metrics.listen}
    console = check.check_own_table("console", ConsoleSettings)
    if merged.table.get("console", {}) != {}:
        from relay.config.console import checks

        listeners["console"] = console.listen
        check.mistakes.extend(checks.find_barred_users(console, merged))
        if not secrets_required:  # the service may lack what the console has, and does without
            check.warnings.extend(checks.find_doubts(console, merged))
    check.check_addresses(listeners)
    disabled = [
        f"{kind}.{name}"
        for kind, tables in named.items()
        for name, table in tables.items()
        if not getattr(table.settings, "enabled", True)
    ]
    config = Config(
        ingest=ingest,
        journal=journal,
        parked=check.check_own_table("parked", ParkedSettings),
        erasure=erasure,
        runtime=runtime,
        admin=admin,
        metrics=metrics,
        log=check.check_own_table("log", LogSettings),
        history=check.check_own_table("history", HistorySettings),
        console=console,
        sources={name: source for name, source in sources.items() if source.settings.enabled},
        connectors={name: connector for name, connector in connectors.items() if connector.settings.enabled},
        filters=named["filter"],
        alerts={name: alert for name, alert in named["alert"].items() if alert.settings.enabled},
        disabled=disabled,
        stale_plugins=check.find_new_code(named),
        written={
            format_path(key): merged.find_place(key) or ""
            for key in merged.origins
            if len(key) == 2 and key[0] in OWN_TABLES
        },
        digests=merged.digest_tables(KINDS),
        texts=[Text(document.name, document.base, document.text) for document in reading.documents],
        plugins=registry.fingerprints,
        plugin_folders=registry.folders,
    )
    if check.mistakes:
        raise ConfigError(sorted(check.mistakes, key=_place), sorted(check.warnings, key=_place))
    every: dict[KeyPath, Settings] = {(name,): getattr(config, name) for name in OWN_TABLES}
    every |= {(kind, name): table.settings for kind, tables in named.items() for name, table in tables.items()}
    config = replace(config, list_effective=partial(list_effective, every, merged, disabled))
    return Loaded(config, tuple(sorted(check.warnings, key=_place)), tuple(disabled), every, merged, connectors, tests)


def _place(mistake: Mistake) -> tuple[str, int, str]:
    return mistake.file, mistake.line or 0, mistake.key
