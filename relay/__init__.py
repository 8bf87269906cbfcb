"""relay: Braze Currents events in over HTTP, on disk before the answer, fanned out through connectors."""

from importlib.metadata import version

__version__ = version("currents-relay")
