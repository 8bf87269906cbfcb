"""Checks what the tables [test.NAME] name: connectors, event types and files."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from relay.api.internal import find_closest
from relay.catalogue import TYPES, suggest_entry
from relay.config.files import find_event_file
from relay.config.merge import Merged
from relay.config.mistake import Mistake
from relay.config.route_tests.settings import RouteTestSettings

KIND: Final = "test"
SAMPLED: Final = [name for name, known in TYPES.items() if known.status != "retired"]
"""The event types with a made-up event."""


def find_mistakes(folders: Sequence[Path], merged: Merged, *, lacks: bool) -> Iterator[Mistake]:
    """Find what a test names that does not exist, also in a test with other mistakes.

    `lacks`: whether all files could be read."""
    connectors = merged.get_tables("connector")
    for name, test in merged.list_tables(KIND):
        sample, file = test.get("sample"), test.get("file")
        if isinstance(sample, str) and sample and sample not in SAMPLED:
            reason = f"the type {sample} is retired" if sample in TYPES else f"there is no event type {sample}"
            meant, path = find_closest(sample, SAMPLED), (KIND, name, "sample")
            yield merged.make_mistake(path, f"{reason}, so there is no made-up event", meant)
        if isinstance(file, str) and folders:
            try:
                find_event_file(Path(file), folders)
            except OSError as error:
                said = error.strerror and f"{file} cannot be read: {error.strerror}"
                yield merged.make_mistake((KIND, name, "file"), said or str(error))
        for setting in ("expect", "without", "fields") if lacks else ():
            written = test.get(setting)
            for connector in written if isinstance(written, dict) else ():
                if connector not in connectors:
                    reason, meant = f"there is no [connector.{connector}]", find_closest(connector, connectors)
                    yield merged.make_mistake((KIND, name, setting, connector), reason, meant)


def find_unknown_types(
    tests: Mapping[str, RouteTestSettings], list_made: Callable[[], Collection[str]], merged: Merged
) -> Iterator[Mistake]:
    """Find events of a type that is neither known nor made by sources."""
    for name, test in tests.items():
        written = json.loads(test.event)["event_type"] if test.event else ""
        if written and written not in TYPES and written not in list_made():
            path, reason = (KIND, name, "event"), f'"{written}" is no known event type'
            yield merged.make_mistake(path, reason, suggest_entry(written))
