"""The Braze Currents event types as data, and selections over them."""

from relay.catalogue.selection import Selection, Unmatched
from relay.catalogue.types import TYPES, EventType

__all__ = ["TYPES", "EventType", "Selection", "Unmatched"]
