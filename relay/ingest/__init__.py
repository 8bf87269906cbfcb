"""HTTP in: checks who may send, reads bodies, and has events on disk before the answer."""

from relay.ingest.decoded import check_decoded
from relay.ingest.intake import Intake
from relay.ingest.problem import make_busy
from relay.ingest.server import Ingest
from relay.ingest.source_watch import SourceWatch
from relay.ingest.to_first_worker import First, FirstPartition, Others

__all__ = [
    "First",
    "FirstPartition",
    "Ingest",
    "Intake",
    "Others",
    "SourceWatch",
    "check_decoded",
    "make_busy",
]
