"""HTTP in: who may send, what a body means, on disk before the answer."""

from relay.ingest.forward import First, Others
from relay.ingest.listeners import bind, close, show
from relay.ingest.server import Ingest

__all__ = ["First", "Ingest", "Others", "bind", "close", "show"]
