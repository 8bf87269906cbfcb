"""HTTP in: who may send, what a body means, and events on disk before the answer."""

from relay.ingest.intake import Intake
from relay.ingest.listeners import bind, close, show
from relay.ingest.problem import busy
from relay.ingest.server import Ingest
from relay.ingest.tls import Certificates
from relay.ingest.to_first_worker import First, Others

__all__ = [
    "Certificates",
    "First",
    "Ingest",
    "Intake",
    "Others",
    "bind",
    "busy",
    "close",
    "show",
]
