"""The Braze Currents event types as data, and selections over them."""

from relay.catalogue.selection import NAMES, OPT_IN, UNKNOWN, Selection, Unmatched, drop_opt_in, suggest_entry
from relay.catalogue.types import TYPES, EventType, find_type

__all__ = [
    "NAMES",
    "OPT_IN",
    "TYPES",
    "UNKNOWN",
    "EventType",
    "Selection",
    "Unmatched",
    "drop_opt_in",
    "find_type",
    "suggest_entry",
]
