"""Routes blocks to a connector by selection and filters, as one pure function."""

from relay.route.filter_results import (
    MOST_PARTS,
    Explained,
    Failed,
    apply_chain,
    apply_filter,
    explain_chain,
    number_parts,
    read_id,
)
from relay.route.route import ENOUGH_BYTES, ENOUGH_S, Route, Routed

__all__ = [
    "ENOUGH_BYTES",
    "ENOUGH_S",
    "MOST_PARTS",
    "Explained",
    "Failed",
    "Route",
    "Routed",
    "apply_chain",
    "apply_filter",
    "explain_chain",
    "number_parts",
    "read_id",
]
