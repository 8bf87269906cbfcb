"""HTTP in: who may send, what a body means, on disk before the answer."""

from relay.ingest.server import Ingest

__all__ = ["Ingest"]
