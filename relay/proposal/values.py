"""What is asked of a proposed configuration, and what is found. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from relay.config import Mistake
from relay.proposal.probe import Probe
from relay.status import ReloadResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Files of conf.d as they would be, and what to try with them."""

    files: Mapping[str, str | None]
    """The text of each file, by a name such as "60-heap.toml" or "60-heap.toml.d/50-console.toml"; null: the file is
    removed. Other files stay as they are."""
    probe: str | None = None
    """Connector whose destination relay tries to reach."""
    sample: str | None = None
    """Connector for which relay looks at the events of the last hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """An event as the connector would get it."""

    offset: int
    received: float
    """Unix seconds."""
    source: str
    type: str
    event: msgspec.Raw


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSample:
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
    failed: int
    """Selected events that a filter cannot handle; they would be parked."""
    failure: str
    """Why the first of these failed."""
    types: Mapping[str, int]
    """The events that the connector would have had, by type, the most frequent first; the rest under ""."""
    examples: Sequence[Example]
    """Three of these events at most."""
    problems: Sequence[str]
    """What could not be read of the journal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedProposal:
    """What was found."""

    mistakes: Sequence[Mistake]
    warnings: Sequence[Mistake]
    result: ReloadResult | None = None
    """What a reload would change; None with mistakes, or if `unknown` says why that is not known."""
    unknown: str = ""
    probe: Probe | None = None
    sample: EventSample | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalAnswer:
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
