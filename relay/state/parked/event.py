"""A parked event as a value. Pure."""

from dataclasses import dataclass
from typing import Final

from relay.api import Event, Kind

ROW_BYTES: Final = 200
"""About the bytes of an event in the database beside its texts."""
CAUSES: Final = ("unreadable", "filter", "refused", "too_large", "gave_up", "bug", "order")
"""Why an event is parked: it is unreadable at its source, a filter failed, the destination refused it or its size,
`give_up_after` is over, or it follows a parked event of its key."""


@dataclass(frozen=True, slots=True)
class Parked:
    """A parked event, and why it is parked."""

    source: str
    connector: str | None
    """None: parked at the source, and never in the journal."""
    offset: int | None
    type: str | None
    cause: str
    """One of CAUSES."""
    reason: str
    """The last error."""
    attempts: int
    body: bytes
    id_field: str = "id"
    time_field: str = "time"
    received: float = 0.0
    """When relay had the event on disk, in Unix seconds."""
    number: int = 0
    """Its number for admins, given by the database."""
    first: float = 0.0
    """Time of the first failed attempt in Unix seconds; 0: it fails only now."""
    last: float = 0.0
    """Time of the last failure in Unix seconds."""
    again: float | None = None
    """When a replay was requested, in Unix seconds; None without a request."""
    status: int | None = None
    """HTTP status of the last answer, if there was one."""
    answer: str = ""
    """The first bytes of the body of that answer, without secrets."""
    replay: int | None = None
    """The replay that parked it; None: the lane, whose ledger counts it."""
    key: str | None = None
    """Its ordering key, if the connector keeps an order."""
    part: int = 0
    """Its part of the event, from 0, if the connector's filters have split the event."""

    @classmethod
    def make(
        cls,
        event: Event,
        connector: str,
        cause: str,
        reason: str,
        attempts: int,
        status: int | None = None,
        answer: str = "",
    ) -> "Parked":
        """Make a parked event for one connector."""
        kind = event.kind
        return cls(
            kind.source, connector, event.offset, kind.type, cause, reason, attempts, event.body,
            kind.id_field, kind.time_field, event.received, status=status, answer=answer, part=event.part,
        )  # fmt: skip

    @property
    def event(self) -> Event:
        """The event as the connector's lane had it. Raises ValueError for an event parked at a source."""
        if self.offset is None or self.type is None:
            raise ValueError("what was unreadable at its source is no event")
        kind = Kind(self.source, self.type, self.id_field, self.time_field)
        return Event(self.body, kind, self.offset, self.received, self.part)


def measure_parked(reason: str, answer: str, key: str | None, body: bytes) -> int:
    """Return about the bytes that an event will take."""
    return ROW_BYTES + len(body) + len(reason) + len(answer) + len(key or "")
