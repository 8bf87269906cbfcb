"""What the events of an object become: bytes, and the events that do not fit."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from relay.api import Batch


class Encoded(NamedTuple):
    """The object of a batch."""

    body: bytes
    misfits: Mapping[int, str]
    """The numbers of the events that are not in `body`, each with the reason."""


class Misfit(ValueError):
    """Report that a form cannot hold an event, with the reason."""


class ObjectForm(Protocol):
    """How objects hold events. The same events give the same bytes."""

    ending: str
    """End of the name of an object."""
    content_type: str
    one_type: bool
    """Whether an object holds events of one type only."""

    def encode(self, batch: Batch) -> Encoded:
        """Return the object of a batch. Blocks: call it in a thread."""
        ...
