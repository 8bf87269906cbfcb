"""A user to erase: what `Connector.erase` gets."""

from dataclasses import dataclass
from typing import NamedTuple


class OtherId(NamedTuple):
    """An id of a user that is neither Braze's nor an external id."""

    kind: str
    """`device_id`, `email`, or `alias:LABEL`."""
    id: str


@dataclass(frozen=True, slots=True)
class User:
    """A user to erase, with all ids that relay knows."""

    user_id: str | None = None
    """Braze's id."""
    external_ids: tuple[str, ...] = ()
    """Your own ids."""
    other_ids: tuple[OtherId, ...] = ()
    """Device ids and e-mail addresses in the user's events, and ids that the request named."""
