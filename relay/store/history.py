"""An entry of the history, and a selection of entries. Pure."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the history."""

    kind: str
    """One of `relay.kinds.KINDS`."""
    subject: str
    """Its subject: "relay", "connector heap", "source braze", "journal", "worker 1"."""
    sentence: str
    by: str = ""
    """Who did it; "": relay itself."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """Numbers and names for programs, as JSON; never the content of an event."""
    at: float = field(default_factory=time.time)
    """Unix seconds."""
    number: int = 0
    """Given by the database in the order of writing."""


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """Selects entries."""

    since: float | None = None
    """The oldest time, in Unix seconds."""
    kind: str | None = None
    subject: str | None = None
    """A whole subject or its name: "connector heap" or "heap"."""
    limit: int = -1
    """Number of the last entries; -1: all."""
