"""What one table says about another, about the catalogue, and about secrets outside the configuration.

Most of it is read from the tables as they were written, so that a mistake elsewhere in a table hides nothing.
"""

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, Final, get_args

from relay.api import HttpUrl, Secret, Source
from relay.api.internal import find_closest, pairs_of_texts, write_size
from relay.catalogue import OPT_IN, TYPES, UNKNOWN, Selection, suggest, without_opt_in
from relay.config.excerpt import plain_secret
from relay.config.line_numbers import KeyPath
from relay.config.merge import Merged, is_off, is_reference, leaves
from relay.config.mistake import Mistake
from relay.config.model import Configured, ErasureSettings, IngestSettings, JournalSettings
from relay.config.plugins.registry import Registry
from relay.config.plugins.traits import Traits, traits_of
from relay.config.redaction import Redaction
from relay.guests import contained, text_of
from relay.kinds import ALERTED

SUBJECTS: Final = ("source", "connector", "certificate", "alert", "journal", "worker", "erasures", "clock", "relay")
"""What alerts can be about, beside names."""
SUGGESTED: Final = 100
"""Who lists more types that are not known has types of their own, and did not mistype so many."""
URL_PART: Final = get_args(HttpUrl)[1]
"""What a setting has that is a URL."""


def missing_filters(merged: Merged) -> Iterator[Mistake]:
    """Find connectors that name a filter for which there is no table."""
    known = merged.named("filter")
    for path, name in _used_filters(merged):
        if name not in known:
            yield merged.mistake(path, f"there is no [filter.{name}]", find_closest(name, known))


def unused_filters(merged: Merged) -> Iterator[Mistake]:
    """Find filters that no connector names; one that is switched off counts too."""
    used = {name for _, name in _used_filters(merged)}
    for name in merged.named("filter"):
        if name not in used:
            yield merged.mistake(("filter", name), "no connector uses this filter")


def open_source(source: Configured[Any, Any], merged: Merged) -> list[Mistake]:
    """Find out whether a source asks for no credentials and no address; its type may have a way of its own to know its
    senders."""
    settings, auth_setting = source.settings, source.plugin.auth_setting
    is_open = settings.enabled and settings.is_open and not settings.allow
    verifies = auth_setting == "tokens" and source.plugin.verify is not Source.verify
    if not is_open or source.plugin.authorize is not Source.authorize or verifies:
        return []
    reason = f"has no `{auth_setting}`: everybody who reaches relay may send to it"
    return [merged.mistake(("source", source.name), reason)]


def useless_tokens(sources: Mapping[str, Configured[Any, Any]], merged: Merged) -> Iterator[Mistake]:
    """Find sources that ask for a token which senders of their type do not have."""
    for name, source in sources.items():
        auth_setting = source.plugin.auth_setting
        if auth_setting != "tokens" and source.settings.enabled and source.settings.tokens:
            reason = f"senders of this type have no token and are answered 401: set `{auth_setting}` instead"
            yield merged.mistake(("source", name, "tokens"), reason)


def unmatched_entries(merged: Merged, made: Collection[str]) -> Iterator[Mistake]:
    """Find entries of `events` that match nothing known, nor what sources make; a warning: new types come monthly."""
    for name, table in merged.tables("connector"):
        texts = [] if is_off(table) else _texts(table.get("events"))
        places = (("connector", name, "events", number) for number, _ in texts)
        found = unmatched([entry for _, entry in texts], made)
        for place, (reason, suggestion) in zip(places, found, strict=True):
            if reason:
                yield merged.mistake(place, reason, suggestion)


def unmatched(entries: Sequence[str], made: Collection[str]) -> Iterator[tuple[str, str | None]]:
    """Say of each entry of a selection if it matches nothing ("" if it does), and of the first SUGGESTED of them what
    was perhaps meant."""
    left = SUGGESTED
    for entry in entries:
        named = entry.strip("! ")
        selection = Selection([named])
        if named in ("", "*", UNKNOWN) or any(map(selection.wants, chain(TYPES, made))):
            yield "", None
            continue
        left -= 1
        yield f'"{entry.strip()}" matches no known event type', suggest(named) if left >= 0 else None


def useless_events(
    connectors: Mapping[str, Configured[Any, Any]], filters: Mapping[str, Configured[Any, Any]], merged: Merged
) -> Iterator[Mistake]:
    """Find connectors that do not select what their type accepts, or more than that, unless their filters make it."""
    for name, connector in connectors.items():
        accepted, selection = connector.plugin.accepted_types, _selection(connector)
        if (
            not accepted
            or not connector.settings.enabled
            or not _made_by_filters(connector, filters).isdisjoint(accepted)
        ):
            continue
        listed, path = " and ".join(accepted), ("connector", name, "events")
        if not any(map(selection.wants, accepted)):
            yield merged.mistake(path, f"does not select {listed}, all that this type takes: nothing will come")
        elif any(selection.wants(known) for known in TYPES if known not in accepted):
            yield merged.mistake(path, f"selects more than {listed}, all that this type takes: the rest is parked")


def untaken_events(
    sources: Mapping[str, Configured[Any, Any]], connectors: Mapping[str, Configured[Any, Any]], merged: Merged
) -> Iterator[Mistake]:
    """Find sources whose own events no connector accepts, because `*` does not ask for them."""
    selections = [_selection(connector) for connector in connectors.values() if connector.settings.enabled]
    for name, source in sources.items():
        for made in source.plugin.emitted_types if source.settings.enabled else ():
            if made in OPT_IN and not any(selection.wants(made) for selection in selections):
                reason = f"no connector takes {made}, which it makes: name that in `events`, `*` leaves it out"
                yield merged.mistake(("source", name), reason)


def events_of_nobody(
    sources: Mapping[str, Configured[Any, Any]],
    connectors: Mapping[str, Configured[Any, Any]],
    filters: Mapping[str, Configured[Any, Any]],
    registry: Registry,
    merged: Merged,
) -> Iterator[Mistake]:
    """Find connectors of a type that takes what no source brings: sources of Braze's own types bring those alone."""
    enabled = [source.plugin for source in sources.values() if source.settings.enabled]
    if not enabled or not all(plugin.catalogued or plugin.emitted_types for plugin in enabled):
        return
    made = {event for plugin in enabled for event in plugin.emitted_types}
    for name, connector in connectors.items():
        accepted = set(connector.plugin.accepted_types)
        if not accepted or not connector.settings.enabled or not accepted.isdisjoint(made.union(TYPES)):
            continue
        if accepted.isdisjoint(_made_by_filters(connector, filters)):
            types = registry.types("source").items()
            makers = [
                made_by for made_by, plugin in types if not accepted.isdisjoint(getattr(plugin, "emitted_types", ()))
            ]
            cure = f"add a source of the type {' or '.join(makers)}" if makers else "add a source of them"
            reason = f"takes {' and '.join(sorted(accepted))} alone, and no source brings that: {cure}"
            yield merged.mistake(("connector", name), reason)


def urls_with_blanks(kind: str, tables: Mapping[str, Configured[Any, Any]], merged: Merged) -> Iterator[Mistake]:
    """Find URLs in which a blank has slipped: it is sent as %20."""
    for name, table in tables.items():
        for key, field in table.plugin.Settings.model_fields.items():
            written = merged.named(kind)[name].get(key)
            is_url = URL_PART in field.metadata or HttpUrl in get_args(field.annotation)
            if is_url and isinstance(written, str) and re.search(r"\s", written):
                reason = "holds a blank, which is sent as %20: take it out, or write %20 if it is meant"
                yield merged.mistake((kind, name, key), reason)


def _made_by_filters(connector: Configured[Any, Any], filters: Mapping[str, Configured[Any, Any]]) -> set[str]:
    """The event types that a connector's filters give to events."""
    steps = [filters[name] for name in connector.settings.filters if name in filters]
    return {made for step in steps for made in step.plugin.emitted_types}


def _selection(connector: Configured[Any, Any]) -> Selection:
    return Selection(without_opt_in(connector.settings.events, connector.plugin.accepted_types))


def unknown_keys(
    connectors: Mapping[str, Configured[Any, Any]],
    filters: Mapping[str, Configured[Any, Any]],
    made: Collection[str],
    merged: Merged,
) -> Iterator[Mistake]:
    """Find event types in tables by event type that are neither known nor made by sources or filters."""
    for name, connector in connectors.items():
        by_filters = _made_by_filters(connector, filters)
        for setting in connector.plugin.per_type_settings if connector.settings.enabled else ():
            keys = getattr(connector.settings, setting)
            for key in keys if isinstance(keys, Mapping) else ():
                if key not in TYPES and key not in made and key not in by_filters:
                    reason = f'"{key}" is no known event type'
                    yield merged.mistake(("connector", name, setting, key), reason, find_closest(key, TYPES))


def kept_users(
    connectors: Mapping[str, Configured[Any, Any]], erasure: ErasureSettings, merged: Merged
) -> Iterator[Mistake]:
    """Find connectors that could have their destination erase users, and are not set up for it."""
    for name, connector in connectors.items():
        lacking, settings = connector.plugin.erasure_setting, connector.settings
        if erasure.on and lacking and settings.enabled and getattr(settings, lacking) is None:
            reason = f"has no `{lacking}`: users whom relay erases stay in this destination"
            yield merged.mistake(("connector", name), reason)


def doubts(kind: str, table: Configured[Any, Any], merged: Merged) -> list[Mistake]:
    """Find settings that their model warns of."""
    clean = Redaction(table.settings).clean
    found = [(about.split(), clean(text_of(reason))) for about, reason in pairs_of_texts(table.settings.warnings())]
    return [merged.mistake((kind, table.name, *about[:1]), reason) for about, reason in found]


def large_batches(connectors: Mapping[str, Configured[Any, Any]], merged: Merged) -> Iterator[Mistake]:
    """Find connectors whose batches are larger than what they may send again."""
    for name, connector in connectors.items():
        events, window = connector.settings.batch.events, connector.settings.window
        if connector.settings.enabled and events > window:
            reason = (
                f"{events:,} events are more than window = {window:,}: one batch goes at a time, and comes again whole;"
                " raise window, or lower batch.events"
            )
            yield merged.mistake(_written(("connector", name), ("batch", "events"), ("window",), merged=merged), reason)


def _written(table: KeyPath, *keys: KeyPath, merged: Merged) -> KeyPath:
    """The first of these keys that the table has; the table itself if none."""
    return next((place for key in keys if (place := (*table, *key)) in merged.origins), table)


def rivalries(registry: Registry, merged: Merged) -> Iterator[Mistake]:
    """Find types in use, and commands, that several plugins provide."""
    for (kind, name), said in registry.rivalries.items():
        if kind == "command":
            yield Mistake(reason=f"relay {name}: the command {said}")
            continue
        users = [user for user, table in merged.tables(kind) if table.get("type") == name and not is_off(table)]
        if users:
            yield merged.mistake((kind, users[0], "type"), f'the {kind} type "{name}" {said}')


def broken_plugins(registry: Registry) -> Iterator[Mistake]:
    """Find plugins that cannot be used, whether a table needs them or not."""
    for info in registry.plugins:
        if info.error:
            yield Mistake(reason=f"plugin {info.name} ({info.origin}) cannot be used: {info.reason}")


def large_bodies(ingest: IngestSettings, journal: JournalSettings, merged: Merged) -> Iterator[Mistake]:
    """Find a limit of bodies that the journal cannot keep to."""
    if ingest.max_body > (most := journal.max_size // 2):
        path = ("ingest", "max_body") if ("ingest", "max_body") in merged.origins else ("journal", "max_size")
        reason = (
            f"bodies beyond {write_size(most)}, half of journal.max_size, never fit into the journal: 413 for them;"
        )
        yield merged.mistake(path, f"{reason} lower max_body, or raise max_size")


def large_memory(journal: JournalSettings, merged: Merged) -> Iterator[Mistake]:
    """Find a memory for recent events that is larger than the journal."""
    path = ("journal", "memory")
    if journal.memory > journal.max_size and path in merged.origins:
        reason = f"memory ({write_size(journal.memory)}) is more than max_size ({write_size(journal.max_size)}), all"
        yield merged.mistake(path, f"{reason} that the journal may hold: lower memory, or raise max_size")


def one_worker_for_all(
    connectors: Mapping[str, Configured[Any, Any]], traits: Mapping[str, Traits], workers: int, merged: Merged
) -> Iterator[Mistake]:
    """Find connectors for which one of several workers has to take all events, so that the others do nothing."""
    for name, known in traits.items() if workers > 1 else ():
        if known.single_worker and all(map(_selection(connectors[name]).wants, TYPES)):
            also = "; or put {worker} into its path" if known.local_path else ""
            reason = f"takes all events, and by one worker alone: the other {workers - 1} of runtime.workers do nothing"
            yield merged.mistake(("connector", name, "events"), f"{reason}; name the types that it needs{also}")


def cuts_of_ordered(
    connectors: Mapping[str, Configured[Any, Any]], traits: Mapping[str, Traits], merged: Merged
) -> Iterator[Mistake]:
    """Find connectors that keep an order, where batches are of what may go next, and want other batches."""
    for name, connector in connectors.items():
        by_setting = bool(connector.settings.order_by)
        if not connector.settings.enabled or not (by_setting or traits.get(name, Traits()).keeps_order):
            continue
        why = "with order_by" if by_setting else "as its type keeps an order"
        for setting in ("align", "group_by"):
            if getattr(connector.settings.batch, setting):
                path = ("connector", name, "batch", setting)
                yield merged.mistake(path, f"cannot be had {why}: a batch has the events that may go next")


def parking_without_order(
    connectors: Mapping[str, Configured[Any, Any]], traits: Mapping[str, Traits], merged: Merged
) -> Iterator[Mistake]:
    """Find connectors that park what is behind a parked event, and keep no order that says what that is."""
    for name, known in traits.items():
        if connectors[name].settings.after_parked == "park" and not known.keeps_order:
            reason = 'does nothing without order_by: add order_by = "user.user_id", or leave after_parked out'
            yield merged.mistake(("connector", name, "after_parked"), reason)


def traits_by_name(connectors: Mapping[str, Configured[Any, Any]]) -> dict[str, Traits]:
    """What connectors that are switched on say of themselves, of those that can be made; where one cannot, that is told
    when it is made to run."""
    found: dict[str, Traits] = {}
    for name, connector in connectors.items():
        if connector.settings.enabled:
            with suppress(Exception), contained(until_ctrl_c=True):  # whatever a plugin does
                found[name] = traits_of(connector.plugin(name, connector.settings, folder=Path()))
    return found


def unknown_kinds(merged: Merged) -> Iterator[Mistake]:
    """Find what alerts are to tell that is no kind of condition."""
    for alert, table in merged.tables("alert"):
        for number, entry in _texts(table.get("on")):
            if entry not in ALERTED:
                reason = f'there is no kind "{entry}"; there are: {", ".join(ALERTED)}'
                yield merged.mistake(("alert", alert, "on", number), reason, find_closest(entry, ALERTED))


def unknown_subjects(merged: Merged) -> Iterator[Mistake]:
    """Find what alerts are to be about and is not there."""
    named = {f"{kind} {name}": name for kind in ("source", "connector") for name in merged.named(kind)}
    known = [*named, *named.values(), *SUBJECTS]
    for alert, table in merged.tables("alert"):
        for number, entry in _texts(table.get("only")):
            if entry not in known and not re.fullmatch(r"(journal of )?worker \d+", entry):
                reason = f'there is no source or connector "{entry}"; it may also be {", ".join(SUBJECTS)}'
                yield merged.mistake(("alert", alert, "only", number), reason, find_closest(entry, known))


def unknown_triggers(merged: Merged) -> Iterator[Mistake]:
    """Find types in `erasure.on` that are not known: no event may ever ask for an erasure then."""
    table = merged.table.get("erasure")
    texts = _texts(table.get("on")) if isinstance(table, dict) else ()
    unknown = [(number, entry) for number, entry in texts if entry not in TYPES]
    for count, (number, entry) in enumerate(unknown):
        meant = find_closest(entry, TYPES) if count < SUGGESTED else None
        yield merged.mistake(("erasure", "on", number), f'"{entry}" is no known event type', meant)


def idle(merged: Merged) -> Iterator[Mistake]:
    """Notice that nothing comes in, or nothing goes out, even if all tables were right."""
    for kind, lack in (("source", "take"), ("connector", "deliver")):
        if all(is_off(table) for table in merged.named(kind).values()):
            yield Mistake(reason=f"no [{kind}.NAME] is enabled: relay will {lack} no events")


def plain_secrets(merged: Merged) -> Iterator[Mistake]:
    """Find what looks like a secret that is written out."""
    for path, text in leaves((), merged.table):
        if isinstance(text, str) and (reason := plain_secret(path, text)):
            yield merged.mistake(path, reason, private=True)


def unread_secrets(path: KeyPath, table: object, merged: Merged) -> Iterator[tuple[Secret, Mistake]]:
    """Find secrets that cannot be read: those of settings, or, in a table that is none for its mistakes, all that
    looks like a reference."""
    for place, leaf in leaves(path, table):
        secret = Secret.parse(leaf) if isinstance(table, dict) and is_reference(leaf) else leaf
        if isinstance(secret, Secret) and secret.problem is not None:
            yield secret, merged.mistake(place, secret.problem, private=True)


def doubtful_secrets(path: KeyPath, settings: object, merged: Merged) -> Iterator[Mistake]:
    """Find secrets whose value is probably not what was meant."""
    for place, leaf in leaves(path, settings):
        if isinstance(leaf, Secret) and leaf.doubt is not None:
            yield merged.mistake(place, leaf.doubt, private=True)


def is_only_elsewhere(secret: Secret) -> bool:
    """Tell whether systemd would give us the secret, and this process was not started by systemd."""
    return secret.how == "credential" and "CREDENTIALS_DIRECTORY" not in os.environ


def _used_filters(merged: Merged) -> Iterator[tuple[KeyPath, str]]:
    for connector, table in merged.tables("connector"):
        for number, name in _texts(table.get("filters")):
            yield ("connector", connector, "filters", number), name


def _texts(value: object) -> list[tuple[int, str]]:
    """The texts of a list with their numbers; other entries are mistakes that the settings report."""
    entries = enumerate(value) if isinstance(value, list) else ()
    return [(number, entry) for number, entry in entries if isinstance(entry, str)]
