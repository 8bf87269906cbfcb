"""Checks tables against each other, against the catalogue, and against secrets outside the configuration.

Most of it reads the tables as written, so that a mistake elsewhere in a table hides nothing.
"""

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, get_args

from relay.api import HttpUrl, Source
from relay.api.internal import check_pairs, find_closest, write_size
from relay.catalogue import OPT_IN, TYPES, UNKNOWN, Selection, drop_opt_in, suggest_entry
from relay.config.line_numbers import KeyPath
from relay.config.merge import Merged, is_off
from relay.config.mistake import Mistake
from relay.config.model import Configured, ErasureSettings, IngestSettings, JournalSettings, RuntimeSettings
from relay.config.plugins.registry import Registry
from relay.config.plugins.traits import Traits, read_traits
from relay.config.redaction import Redaction
from relay.guests import contained, read_text
from relay.kinds import ALERTED

SUBJECTS: Final = (
    "source", "connector", "certificate", "alert", "journal", "database", "worker", "node", "erasures", "clock",
    "relay",
)  # fmt: skip
"""Subjects of alerts, beside names."""
SUGGESTED: Final = 100
"""With more unknown types than these, an admin has types of their own, and has not mistyped them all."""
URL_PART: Final = get_args(HttpUrl)[1]
"""A part of the names of settings that are URLs."""


def find_missing_filters(merged: Merged) -> Iterator[Mistake]:
    """Find connectors with a filter that has no table."""
    known = merged.get_tables("filter")
    for path, name in _used_filters(merged):
        if name not in known:
            yield merged.make_mistake(path, f"there is no [filter.{name}]", find_closest(name, known))


def find_unused_filters(merged: Merged) -> Iterator[Mistake]:
    """Find filters that no connector uses, not even a disabled one."""
    used = {name for _, name in _used_filters(merged)}
    for name in merged.get_tables("filter"):
        if name not in used:
            yield merged.make_mistake(("filter", name), "no connector uses this filter")


def open_source(source: Configured[Any, Any], merged: Merged) -> list[Mistake]:
    """Return whether a source asks for no credentials and no address. Its type may know its senders in its own way."""
    settings, auth_setting = source.settings, source.plugin.auth_setting
    is_open = settings.enabled and settings.is_open and not settings.allow
    verifies = auth_setting == "tokens" and source.plugin.verify is not Source.verify
    if not is_open or source.plugin.authorize is not Source.authorize or verifies:
        return []
    reason = f"has no `{auth_setting}`: everybody who reaches relay may send to it"
    return [merged.make_mistake(("source", source.name), reason)]


def find_useless_tokens(sources: Mapping[str, Configured[Any, Any]], merged: Merged) -> Iterator[Mistake]:
    """Find sources with a token that the senders of their type cannot send."""
    for name, source in sources.items():
        auth_setting = source.plugin.auth_setting
        if auth_setting != "tokens" and source.settings.enabled and source.settings.tokens:
            reason = f"senders of this type have no token and are answered 401: set `{auth_setting}` instead"
            yield merged.make_mistake(("source", name, "tokens"), reason)


def find_unmatched_entries(merged: Merged, list_made: Callable[[], Collection[str]]) -> Iterator[Mistake]:
    """Find entries of `events` that match nothing known, nor what sources make. New types come monthly."""
    for name, table in merged.list_tables("connector"):
        texts = [] if is_off(table) else _list_texts(table.get("events"))
        places = (("connector", name, "events", number) for number, _ in texts)
        found = match_entries([entry for _, entry in texts], list_made)
        for place, (reason, suggestion) in zip(places, found, strict=True):
            if reason:
                yield merged.make_mistake(place, reason, suggestion)


def match_entries(entries: Sequence[str], list_made: Callable[[], Collection[str]]) -> Iterator[tuple[str, str | None]]:
    """Yield each entry of a selection that matches nothing, with a suggestion ("" for none) for the first SUGGESTED.

    `list_made`: lists the event types that sources make; called for an entry that matches no type of the catalogue.
    """
    left = SUGGESTED
    for entry in entries:
        named = entry.strip("! ")
        selection = Selection([named])
        if named in ("", "*", UNKNOWN) or any(map(selection.wants, TYPES)) or any(map(selection.wants, list_made())):
            yield "", None
            continue
        left -= 1
        yield f'"{entry.strip()}" matches no known event type', suggest_entry(named) if left >= 0 else None


def find_useless_events(
    connectors: Mapping[str, Configured[Any, Any]], filters: Mapping[str, Configured[Any, Any]], merged: Merged
) -> Iterator[Mistake]:
    """Find connectors that do not select what their type accepts, or more, unless their filters make it."""
    for name, connector in connectors.items():
        accepted, selection = connector.plugin.accepted_types, _make_selection(connector)
        if (
            not accepted
            or not connector.settings.enabled
            or not _list_made_types(connector, filters).isdisjoint(accepted)
        ):
            continue
        listed, path = " and ".join(accepted), ("connector", name, "events")
        if not any(map(selection.wants, accepted)):
            yield merged.make_mistake(path, f"does not select {listed}, all that this type takes: nothing will come")
        elif any(selection.wants(known) for known in TYPES if known not in accepted):
            yield merged.make_mistake(path, f"selects more than {listed}, all that this type takes: the rest is parked")


def find_untaken_events(
    sources: Mapping[str, Configured[Any, Any]], connectors: Mapping[str, Configured[Any, Any]], merged: Merged
) -> Iterator[Mistake]:
    """Find sources whose own events no connector accepts, because `*` does not include them."""
    selections = [_make_selection(connector) for connector in connectors.values() if connector.settings.enabled]
    for name, source in sources.items():
        for made in source.plugin.emitted_types if source.settings.enabled else ():
            if made in OPT_IN and not any(selection.wants(made) for selection in selections):
                reason = f"no connector takes {made}, which it makes: name that in `events`, `*` leaves it out"
                yield merged.make_mistake(("source", name), reason)


def find_missing_events(
    sources: Mapping[str, Configured[Any, Any]],
    connectors: Mapping[str, Configured[Any, Any]],
    filters: Mapping[str, Configured[Any, Any]],
    registry: Registry,
    merged: Merged,
) -> Iterator[Mistake]:
    """Find connectors whose type accepts only events that no source brings."""
    enabled = [source.plugin for source in sources.values() if source.settings.enabled]
    if not enabled or not all(plugin.catalogued or plugin.emitted_types for plugin in enabled):
        return
    made = {event for plugin in enabled for event in plugin.emitted_types}
    for name, connector in connectors.items():
        accepted = set(connector.plugin.accepted_types)
        if not accepted or not connector.settings.enabled or not accepted.isdisjoint(made.union(TYPES)):
            continue
        if accepted.isdisjoint(_list_made_types(connector, filters)):
            types = registry.get_types("source").items()
            makers = [
                made_by for made_by, plugin in types if not accepted.isdisjoint(getattr(plugin, "emitted_types", ()))
            ]
            cure = f"add a source of the type {' or '.join(makers)}" if makers else "add a source of them"
            reason = f"takes {' and '.join(sorted(accepted))} alone, and no source brings that: {cure}"
            yield merged.make_mistake(("connector", name), reason)


def find_blanks_in_urls(kind: str, tables: Mapping[str, Configured[Any, Any]], merged: Merged) -> Iterator[Mistake]:
    """Find URLs with a blank, which is sent as %20."""
    for name, table in tables.items():
        for key, field in table.plugin.Settings.model_fields.items():
            written = merged.get_tables(kind)[name].get(key)
            is_url = URL_PART in field.metadata or HttpUrl in get_args(field.annotation)
            if is_url and isinstance(written, str) and re.search(r"\s", written):
                reason = "holds a blank, which is sent as %20: take it out, or write %20 if it is meant"
                yield merged.make_mistake((kind, name, key), reason)


def _list_made_types(connector: Configured[Any, Any], filters: Mapping[str, Configured[Any, Any]]) -> set[str]:
    """Return the event types that a connector's filters make."""
    steps = [filters[name] for name in connector.settings.filters if name in filters]
    return {made for step in steps for made in step.plugin.emitted_types}


def _make_selection(connector: Configured[Any, Any]) -> Selection:
    return Selection(drop_opt_in(connector.settings.events, connector.plugin.accepted_types))


def find_unknown_keys(
    connectors: Mapping[str, Configured[Any, Any]],
    filters: Mapping[str, Configured[Any, Any]],
    list_made: Callable[[], Collection[str]],
    merged: Merged,
) -> Iterator[Mistake]:
    """Find keys of tables by event type that are neither known nor made by sources or filters."""
    for name, connector in connectors.items():
        by_filters = _list_made_types(connector, filters)
        for setting in connector.plugin.per_type_settings if connector.settings.enabled else ():
            keys = getattr(connector.settings, setting)
            for key in keys if isinstance(keys, Mapping) else ():
                if key not in TYPES and key not in by_filters and key not in list_made():
                    reason = f'"{key}" is no known event type'
                    yield merged.make_mistake(("connector", name, setting, key), reason, find_closest(key, TYPES))


def find_kept_users(
    connectors: Mapping[str, Configured[Any, Any]], erasure: ErasureSettings, merged: Merged
) -> Iterator[Mistake]:
    """Find connectors that could erase users at their destination, and are not set up for it."""
    for name, connector in connectors.items():
        lacking, settings = connector.plugin.erasure_setting, connector.settings
        if erasure.on and lacking and settings.enabled and getattr(settings, lacking) is None:
            reason = f"has no `{lacking}`: users whom relay erases stay in this destination"
            yield merged.make_mistake(("connector", name), reason)


def find_doubts(kind: str, table: Configured[Any, Any], merged: Merged) -> list[Mistake]:
    """Find settings that their model warns of."""
    doubts = check_pairs(table.settings.warnings())
    found = [(about.split(), Redaction(table.settings).clean(read_text(reason))) for about, reason in doubts]
    return [merged.make_mistake((kind, table.name, *about[:1]), reason) for about, reason in found]


def find_large_batches(connectors: Mapping[str, Configured[Any, Any]], merged: Merged) -> Iterator[Mistake]:
    """Find connectors whose batches are larger than their window."""
    for name, connector in connectors.items():
        events, window = connector.settings.batch.events, connector.settings.window
        if connector.settings.enabled and events > window:
            reason = (
                f"{events:,} events are more than window = {window:,}: one batch goes at a time, and comes again whole;"
                " raise window, or lower batch.events"
            )
            places = ("connector", name, "batch", "events"), ("connector", name, "window"), ("connector", name)
            yield merged.make_mistake(next(place for place in places if place in merged.origins), reason)


def find_late_starts(connectors: Mapping[str, Configured[Any, Any]], merged: Merged) -> Iterator[Mistake]:
    """Find connectors that begin at a time to come."""
    for name, connector in connectors.items():
        start = connector.settings.from_
        if isinstance(start, float) and start > time.time():
            reason = "is a time in the future: a new connector gets no event that comes before"
            yield merged.make_mistake(("connector", name, "from"), reason)


def find_rivalries(registry: Registry, merged: Merged) -> Iterator[Mistake]:
    """Find used types and commands that several plugins provide."""
    for (kind, name), said in registry.rivalries.items():
        if kind == "command":
            yield Mistake(reason=f"relay {name}: the command {said}")
            continue
        users = [user for user, table in merged.list_tables(kind) if table.get("type") == name and not is_off(table)]
        if users:
            yield merged.make_mistake((kind, users[0], "type"), f'the {kind} type "{name}" {said}')


def find_broken_plugins(registry: Registry) -> Iterator[Mistake]:
    """Find plugins that cannot be used, whether a table needs them or not."""
    for info in registry.broken:
        yield Mistake(reason=f"plugin {info.name} ({info.origin}) cannot be used: {info.reason}")


def find_large_bodies(ingest: IngestSettings, journal: JournalSettings, merged: Merged) -> Iterator[Mistake]:
    """Find a limit of bodies that the journal, or one partition of it, cannot keep."""
    parts = journal.partitions if journal.backend == "postgres" else 1
    if ingest.max_body > (most := journal.max_size // parts // 2):
        path = ("ingest", "max_body") if ("ingest", "max_body") in merged.origins else ("journal", "max_size")
        half = f"half of journal.max_size{' of one partition' if parts > 1 else ''}"
        reason = f"bodies beyond {write_size(most)}, {half}, never fit into the journal: 413 for them;"
        yield merged.make_mistake(path, f"{reason} lower max_body, or raise max_size")


def find_large_memory(journal: JournalSettings, merged: Merged) -> Iterator[Mistake]:
    """Find a memory for recent events that is larger than the journal."""
    path = ("journal", "memory")
    if journal.memory > journal.max_size and path in merged.origins:
        reason = f"memory ({write_size(journal.memory)}) is more than max_size ({write_size(journal.max_size)}), all"
        yield merged.make_mistake(path, f"{reason} that the journal may hold: lower memory, or raise max_size")


def find_single_workers(
    connectors: Mapping[str, Configured[Any, Any]],
    traits: Mapping[str, Traits],
    runtime: RuntimeSettings,
    journal: JournalSettings,
    merged: Merged,
) -> Iterator[Mistake]:
    """Find connectors that need all events in one of several workers or partitions, so that the others do nothing."""
    if journal.backend == "postgres":
        part, parts, setting = "partition", journal.partitions, "journal.partitions"
        traits = read_shared_traits(connectors)
    else:
        part, parts, setting = "worker", runtime.workers, "runtime.workers"
    for name, known in traits.items() if parts > 1 else ():
        if known.single_worker and all(map(_make_selection(connectors[name]).wants, TYPES)):
            also = "; or put {worker} into its path" if known.local_path else ""
            reason = f"takes all events, and by one {part} alone: the other {parts - 1} of {setting} do nothing"
            yield merged.make_mistake(("connector", name, "events"), f"{reason}; name the types that it needs{also}")


def find_ordered_batches(
    connectors: Mapping[str, Configured[Any, Any]], traits: Mapping[str, Traits], merged: Merged
) -> Iterator[Mistake]:
    """Find connectors that keep an order and want batches by other rules."""
    for name, connector in connectors.items():
        by_setting = bool(connector.settings.order_by)
        if not connector.settings.enabled or not (by_setting or traits.get(name, Traits()).keeps_order):
            continue
        why = "with order_by" if by_setting else "as its type keeps an order"
        for setting in ("align", "group_by"):
            if getattr(connector.settings.batch, setting):
                path = ("connector", name, "batch", setting)
                yield merged.make_mistake(path, f"cannot be had {why}: a batch has the events that may go next")


def find_parking_without_order(
    connectors: Mapping[str, Configured[Any, Any]], traits: Mapping[str, Traits], merged: Merged
) -> Iterator[Mistake]:
    """Find connectors that park what follows a parked event, without an order that defines it."""
    for name, known in traits.items():
        if connectors[name].settings.after_parked == "park" and not known.keeps_order:
            reason = 'does nothing without order_by: add order_by = "user.user_id", or leave after_parked out'
            yield merged.make_mistake(("connector", name, "after_parked"), reason)


def read_all_traits(connectors: Mapping[str, Configured[Any, Any]]) -> dict[str, Traits]:
    """Read the traits of enabled connectors that can be made. Failures are reported when a connector is made to run."""
    found: dict[str, Traits] = {}
    for name, connector in connectors.items():
        if connector.settings.enabled:
            with suppress(Exception), contained(until_ctrl_c=True):  # whatever a plugin does
                found[name] = read_traits(connector.plugin(name, connector.settings, folder=Path()))
    return found


def read_shared_traits(connectors: Mapping[str, Configured[Any, Any]]) -> dict[str, Traits]:
    """Read the traits in partitions that all processes share. Each partition has its part of a connector's rate."""
    parts = {
        name: replace(one, settings=one.settings.model_copy(update={"rate": 0.0})) for name, one in connectors.items()
    }
    return read_all_traits(parts)


def find_unknown_kinds(merged: Merged) -> Iterator[Mistake]:
    """Find entries of an alert's `on` that are no kind of condition."""
    for alert, table in merged.list_tables("alert"):
        for number, entry in _list_texts(table.get("on")):
            if entry not in ALERTED:
                reason = f'there is no kind "{entry}"; there are: {", ".join(ALERTED)}'
                yield merged.make_mistake(("alert", alert, "on", number), reason, find_closest(entry, ALERTED))


def find_unknown_subjects(merged: Merged) -> Iterator[Mistake]:
    """Find entries of an alert's `only` that do not exist."""
    named = {f"{kind} {name}": name for kind in ("source", "connector") for name in merged.get_tables(kind)}
    known = [*named, *named.values(), *SUBJECTS]
    for alert, table in merged.list_tables("alert"):
        for number, entry in _list_texts(table.get("only")):
            if entry not in known and not re.fullmatch(r"(journal of )?worker \d+", entry):
                reason = f'there is no source or connector "{entry}"; it may also be {", ".join(SUBJECTS)}'
                yield merged.make_mistake(("alert", alert, "only", number), reason, find_closest(entry, known))


def find_unknown_triggers(merged: Merged) -> Iterator[Mistake]:
    """Find unknown types in `erasure.on`, which may never request an erasure."""
    table = merged.table.get("erasure")
    texts = _list_texts(table.get("on")) if isinstance(table, dict) else ()
    unknown = [(number, entry) for number, entry in texts if entry not in TYPES]
    for count, (number, entry) in enumerate(unknown):
        meant = find_closest(entry, TYPES) if count < SUGGESTED else None
        yield merged.make_mistake(("erasure", "on", number), f'"{entry}" is no known event type', meant)


def find_idle(merged: Merged) -> Iterator[Mistake]:
    """Notice that nothing comes in, or nothing goes out, even if all tables were right."""
    for kind, lack in (("source", "take"), ("connector", "deliver")):
        if all(is_off(table) for table in merged.get_tables(kind).values()):
            yield Mistake(reason=f"no [{kind}.NAME] is enabled: relay will {lack} no events")


def _used_filters(merged: Merged) -> Iterator[tuple[KeyPath, str]]:
    for connector, table in merged.list_tables("connector"):
        for number, name in _list_texts(table.get("filters")):
            yield ("connector", connector, "filters", number), name


def _list_texts(value: object) -> list[tuple[int, str]]:
    """Return the texts of a list with their numbers. The settings report other entries."""
    entries = enumerate(value) if isinstance(value, list) else ()
    return [(number, entry) for number, entry in entries if isinstance(entry, str)]
