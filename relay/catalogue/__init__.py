"""The Braze Currents event types as data, and selections over them."""

from relay.catalogue.selection import NAMES, OPT_IN, UNKNOWN, Selection, Unmatched, suggest, without_opt_in
from relay.catalogue.types import TYPES, EventType, type_by_name

__all__ = [
    "NAMES",
    "OPT_IN",
    "TYPES",
    "UNKNOWN",
    "EventType",
    "Selection",
    "Unmatched",
    "suggest",
    "type_by_name",
    "without_opt_in",
]
