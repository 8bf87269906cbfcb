"""What a configuration can name, what is asked of a proposed one, and what is found. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from relay.config import Mistake
from relay.proposal.probe import Probe
from relay.status import ReloadResult


class AvailablePlugin(Struct, frozen=True):
    """A plugin that is installed or dropped in."""

    name: str
    origin: str
    """The file or folder of a drop-in plugin; else the name of the package."""
    version: str
    provides: Sequence[str]
    """Such as "connector heap"."""
    error: str | None
    """Why the plugin cannot be used; null if it can."""
    notes: Sequence[str]
    """Surprises for the author of the plugin, or for an admin."""
    loaded: bool
    """Whether relay runs with the plugin. A plugin that came after the start takes a restart."""
    stale: bool
    """Whether the files of the plugin have changed since relay loaded them. The new code takes a restart."""


class AvailableType(Struct, frozen=True):
    """A type that a table of conf.d can name."""

    kind: str
    """source, connector, filter or alert."""
    type: str
    plugin: str
    """The name of the plugin."""
    loaded: bool
    """Whether relay runs with the plugin."""
    doc: str
    """The docstring of the type."""
    accepted_types: Sequence[str]
    """The event types that a connector can use; empty: all."""
    emitted_types: Sequence[str]
    """The event types that a source or filter makes itself."""
    schema: Mapping[str, Any] | None
    """A JSON Schema of the table, with the description, the default and the choices of each setting.

    A setting with units lists them in `x-units`; `x-secret` marks a reference to a secret. `x-needs` has, for each
    contradiction of a table without settings, the settings that it is about. null: `problem` says why there is none."""
    problem: str
    missing: str = ""
    """The libraries that the type needs and that are not installed, with the command that installs them; "" if none is
    missing."""


class AvailableTypes(Struct, frozen=True):
    """The plugins and their types."""

    plugins: Sequence[AvailablePlugin]
    types: Sequence[AvailableType]


class Proposal(Struct, frozen=True, kw_only=True):
    """Files of conf.d as they would be, and what to try with them."""

    files: Mapping[str, str | None]
    """The text of each file, by a name such as "60-heap.toml" or "60-heap.toml.d/50-console.toml"; null: the file is
    removed. Other files stay as they are."""
    probe: str | None = None
    """Connector whose destination relay tries to reach."""
    sample: str | None = None
    """Connector for which relay looks at the events of the last hour."""


class Example(Struct, frozen=True, kw_only=True):
    """An event as the connector would get it."""

    offset: int
    received: float
    """Unix seconds."""
    source: str
    type: str
    event: msgspec.Raw
    changed: bool
    """Whether the filters of the connector change the event."""
    before: msgspec.Raw
    """The event as it came, if the filters change it; else null."""


class EventSample(Struct, frozen=True, kw_only=True):
    """What a connector would have had of the events of the last hour."""

    since: float
    """The begin of the hour, in Unix seconds."""
    complete: bool
    """Whether relay has read the whole hour. If not, the counts are of its first part."""
    read: int
    """All events of that time."""
    selected: int
    """Events that the selection of the connector wants."""
    filtered: int
    """Selected events that its filters drop."""
    changed: int
    """Selected events that its filters change, or split."""
    failed: int
    """Selected events that a filter cannot handle; they would be parked."""
    failure: str
    """Why the first of these failed."""
    types: Mapping[str, int]
    """The events that the connector would have had, by type, the most frequent first; the rest under ""."""
    examples: Sequence[Example]
    """Three of these events at most."""
    problems: Sequence[str]
    """What could not be read of the journal, or which filter does not open."""


class CheckedProposal(Struct, frozen=True, kw_only=True):
    """What was found."""

    mistakes: Sequence[Mistake]
    warnings: Sequence[Mistake]
    result: ReloadResult | None = None
    """What a reload would change; None with mistakes, or if `unknown` says why that is not known."""
    unknown: str = ""
    probe: Probe | None = None
    sample: EventSample | None = None


class ProposalAnswer(Struct, frozen=True, kw_only=True):
    """What was found, for admins."""

    ok: bool
    """Whether a reload would take the configuration."""
    mistakes: Sequence[Mistake]
    warnings: Sequence[Mistake]
    changes: Sequence[str]
    """What a reload would say; empty with mistakes."""
    probe: Probe | None
    """null if it was not asked for, or with mistakes."""
    sample: EventSample | None
    """null if it was not asked for, or with mistakes."""
