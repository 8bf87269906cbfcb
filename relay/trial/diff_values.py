"""What is asked of two configurations over recorded events, and what is found. Pure."""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct, field

from relay.config import Mistake, Text

DAY_S = 86400.0


class DiffRequest(Struct, frozen=True, kw_only=True):
    """A new configuration, and the recorded events that go through it and the configuration in force."""

    files: Mapping[str, str]
    """The text of every file of the new configuration, by a name such as "60-heap.toml" or
    "60-heap.toml.d/50-more.toml". No other file counts."""
    since: float | None = None
    """Events received from this time on, in Unix seconds; null: of the last 24 hours."""
    connectors: Sequence[str] = ()
    """Only these connectors; empty: all of both configurations."""
    limit: int | None = field(default=None)
    """Events at most, from the oldest on."""

    def list_texts(self) -> list[Text]:
        """List the files in the order in which they count: each file, then what overrides it."""
        based = [(name.partition("/")[0].removesuffix(".d") if "/" in name else name, name) for name in self.files]
        ordered = sorted(based, key=lambda one: (one[0], one[0] != one[1], one[1]))
        return [Text(name, base, self.files[name]) for base, name in ordered]


class FieldChange(Struct, frozen=True):
    """A field of an event, or a setting, before and with the new configuration, as JSON; "" if it is not there."""

    path: str
    before: str
    now: str


class DiffReason(Struct, frozen=True):
    """What decides before, what decides with the new configuration, and for how many events."""

    before: str
    now: str
    events: int


class DiffExample(Struct, frozen=True):
    """An event that makes a difference."""

    worker: int
    offset: int
    received: float
    """Unix seconds."""
    type: str
    id: str | None
    before: str
    now: str
    fields: Sequence[FieldChange]
    """The fields that differ, if the connector gets the event in both configurations."""


class DiffGroup(Struct, frozen=True):
    """Events of a connector that make the same difference."""

    events: int
    reasons: Sequence[DiffReason]
    """The most frequent first."""
    examples: Sequence[DiffExample]
    """The first three."""


class ConnectorDiff(Struct, frozen=True, kw_only=True):
    """The events of a connector, by what the new configuration makes of them."""

    connector: str
    as_before: int
    newly_wanted: DiffGroup
    """Events that the connector gets with the new configuration alone."""
    no_longer_wanted: DiffGroup
    """Events that the connector does not select any more, or its filters drop."""
    changed: DiffGroup
    """Events that the connector gets with other content."""
    failing: DiffGroup
    """Events that a filter of the new configuration cannot handle: they would be parked."""
    settings: Sequence[FieldChange]
    """The settings of the connector and its filters that differ. A default of an added or removed table is none."""
    other_settings: bool
    """Whether other settings than `events` and `filters` differ. What they change is not compared."""
    problem: str
    """Why the events of the connector were not compared; "": they were."""

    @property
    def is_different(self) -> bool:
        """Whether anything differs, or was not compared."""
        groups = self.newly_wanted, self.no_longer_wanted, self.changed, self.failing
        return bool(self.problem or self.other_settings or any(one.events for one in groups))


class Diff(Struct, frozen=True, kw_only=True):
    """What a new configuration would have made of recorded events."""

    mistakes: Sequence[Mistake] = ()
    """Mistakes of the new configuration; with any, nothing is compared."""
    since: float = 0.0
    """Unix seconds."""
    events: int = 0
    """Events that were compared."""
    connectors: Sequence[ConnectorDiff] = ()
    problems: Sequence[str] = ()
    """What could not be read of the journal."""
    other_tables: Sequence[FieldChange] = ()
    """The settings of other tables that differ, such as sources and the journal, if all connectors were asked for. What
    they change is not compared."""

    @property
    def is_different(self) -> bool:
        """Whether any connector or any other table differs."""
        return bool(self.other_tables) or any(one.is_different for one in self.connectors)


def decode_diff(answer: bytes | msgspec.Raw) -> Diff:
    """Decode a diff."""
    return msgspec.json.decode(answer, type=Diff)
