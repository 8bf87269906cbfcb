"""Which events of a block a connector gets, and in what form: selection, then filters, as one plain function."""

from relay.route.route import Failed, Route, Routed, applied

__all__ = ["Failed", "Route", "Routed", "applied"]
