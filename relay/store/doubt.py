"""A doubt about journal, database or clock. Pure."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """A doubt that an admin may accept."""

    worker: int
    what: Literal["journal", "clock"]
    """The name by which it is accepted."""
    said: str
    """The doubt in a sentence."""
    is_damage: bool = False
    """Whether connectors and replays could not read something."""
