"""Checks tables against a journal in PostgreSQL, which relays on several machines share."""

from collections.abc import Iterator, Mapping
from typing import Final

from relay.config.merge import Merged, is_off
from relay.config.mistake import Mistake
from relay.config.model import JournalSettings, RuntimeSettings
from relay.config.plugins.traits import Traits

WORKER: Final = "{worker}"


def find_mistakes(traits: Mapping[str, Traits], merged: Merged) -> Iterator[Mistake]:
    """Find what several machines cannot share."""
    yield from _find_standard_output(merged)
    yield from _find_torn_files(traits, merged)


def find_doubts(
    journal: JournalSettings, runtime: RuntimeSettings, traits: Mapping[str, Traits], merged: Merged
) -> Iterator[Mistake]:
    """Find what several machines share badly."""
    yield from _find_spread_files(traits, merged)
    yield from _find_idle_workers(journal, runtime, merged)


def _find_standard_output(merged: Merged) -> Iterator[Mistake]:
    """Find connectors that write to the standard output of one machine."""
    for name, table in merged.list_tables("connector"):
        if table.get("type") == "stdout" and not is_off(table):
            reason = 'is refused with journal.backend = "postgres": after a takeover the rest goes to another machine'
            yield merged.make_mistake(("connector", name, "type"), f"{reason}; deliver to a destination that all reach")


def _find_torn_files(traits: Mapping[str, Traits], merged: Merged) -> Iterator[Mistake]:
    """Find connectors that write files of all partitions into one path."""
    for name, path in _list_paths(traits, merged):
        if WORKER not in path:
            reason = 'is refused with journal.backend = "postgres": after a takeover the rest of a file lies on another'
            yield merged.make_mistake(
                ("connector", name, "path"), f"{reason} machine; put {WORKER}, the partition's number, into the path"
            )


def _find_spread_files(traits: Mapping[str, Traits], merged: Merged) -> Iterator[Mistake]:
    """Find connectors whose files lie on every machine."""
    for name, path in _list_paths(traits, merged):
        if WORKER in path:
            reason = 'with journal.backend = "postgres" each machine has its part of the files, lost with the machine'
            yield merged.make_mistake(("connector", name, "path"), reason)


def _list_paths(traits: Mapping[str, Traits], merged: Merged) -> Iterator[tuple[str, str]]:
    """Yield the connectors that keep files, each with its setting `path` as written."""
    for name, known in traits.items():
        if known.local_path is not None:
            yield name, str(merged.get_tables("connector")[name].get("path", ""))


def _find_idle_workers(journal: JournalSettings, runtime: RuntimeSettings, merged: Merged) -> Iterator[Mistake]:
    """Find more workers of this relay alone than there are partitions."""
    idle = runtime.workers - journal.partitions
    if idle > 0:
        reason = f"{runtime.workers} workers of this relay share journal.partitions = {journal.partitions}"
        yield merged.make_mistake(("runtime", "workers"), f"{reason}: {idle} of them deliver nothing; raise partitions")
