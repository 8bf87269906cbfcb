"""What admins see and do: status, metrics, health in words, live taps, pauses; over HTTP on a unix socket."""

from relay.admin.conditions import Condition, conditions
from relay.admin.control import Control
from relay.admin.merging import ended, merged, still
from relay.admin.rates import EVERY_S, Rates, time_to
from relay.admin.server import SOCKET, Admin, Bound, runtime_folder
from relay.admin.server import bind as bind_admin
from relay.admin.status import (
    AlertStatus,
    CertificateStatus,
    GoneConnector,
    JournalStatus,
    LaneStatus,
    LastAlert,
    LastError,
    ListenerStatus,
    RefusedReload,
    Refusing,
    ReplayStatus,
    SourceStatus,
    State,
    Status,
    WorkerStatus,
)
from relay.admin.tap import Tap, Taps

__all__ = [
    "EVERY_S",
    "SOCKET",
    "Admin",
    "AlertStatus",
    "Bound",
    "CertificateStatus",
    "Condition",
    "Control",
    "GoneConnector",
    "JournalStatus",
    "LaneStatus",
    "LastAlert",
    "LastError",
    "ListenerStatus",
    "Rates",
    "RefusedReload",
    "Refusing",
    "ReplayStatus",
    "SourceStatus",
    "State",
    "Status",
    "Tap",
    "Taps",
    "WorkerStatus",
    "bind_admin",
    "conditions",
    "ended",
    "merged",
    "runtime_folder",
    "still",
    "time_to",
]
