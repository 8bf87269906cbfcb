"""Which events of a block a connector gets, and in what form: selection, then filters, as one plain function."""

from relay.route.filter_results import MOST_PARTS, Failed, applied, chained, id_of, numbered
from relay.route.route import ENOUGH_BYTES, ENOUGH_S, Route, Routed

__all__ = [
    "ENOUGH_BYTES",
    "ENOUGH_S",
    "MOST_PARTS",
    "Failed",
    "Route",
    "Routed",
    "applied",
    "chained",
    "id_of",
    "numbered",
]
