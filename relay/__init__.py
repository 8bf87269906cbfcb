"""relay: Braze Currents events in over HTTP, on disk before the answer, fanned out through connectors."""

__version__ = "0.1.0"
