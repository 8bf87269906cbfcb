"""A message of an alert. Pure."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import fields

MESSAGES_KEPT: Final = 20
"""Messages of each alert that stay after they are sent or given up."""


class AlertMessage(Struct, frozen=True):
    """A message of an alert, sent or not. Times are Unix seconds."""

    id: str
    alert: str
    made: float
    message: str
    """JSON, as `relay.api.Message.data` has it."""
    attempts: int = 0
    last: float | None = None
    """Time of the last try."""
    problem: str = ""
    """Why the last try failed."""
    sent: float | None = None
    given_up: float | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether the message is still to be sent."""
        return self.sent is None and self.given_up is None


MESSAGE_COLUMNS: Final = tuple(one.name for one in fields(AlertMessage))
"""The columns of a message in a table."""
Tracks = Mapping[tuple[str, str], str]
"""The memory of an alert, as JSON, by subject and family."""
