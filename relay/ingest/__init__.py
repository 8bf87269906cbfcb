"""HTTP in: checks who may send, reads bodies, and has events on disk before the answer."""

from relay.ingest.intake import Intake
from relay.ingest.listeners import bind, close, describe_sockets
from relay.ingest.problem import make_busy
from relay.ingest.server import Ingest
from relay.ingest.source_watch import SourceWatch
from relay.ingest.tls import Certificates
from relay.ingest.to_first_worker import First, FirstPartition, Others

__all__ = [
    "Certificates",
    "First",
    "FirstPartition",
    "Ingest",
    "Intake",
    "Others",
    "SourceWatch",
    "bind",
    "close",
    "describe_sockets",
    "make_busy",
]
