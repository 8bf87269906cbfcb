"""The admin API: HTTP on a unix socket for status, metrics, health, parked events and control."""

from relay.admin.acts import (
    accept_entry,
    cancel_entry,
    erasure_entry,
    forget_entry,
    parked_entry,
    pause_entry,
    reload_entry,
    repair_entry,
    replay_entry,
    restore_entry,
    resume_entry,
)
from relay.admin.journal_process import DEADLINE_S
from relay.admin.server import RELOAD_AS_VALUE, SOCKET, Admin, Bound, bind, runtime_folder
from relay.admin.tail import Tap

__all__ = [
    "DEADLINE_S",
    "RELOAD_AS_VALUE",
    "SOCKET",
    "Admin",
    "Bound",
    "Tap",
    "accept_entry",
    "bind",
    "cancel_entry",
    "erasure_entry",
    "forget_entry",
    "parked_entry",
    "pause_entry",
    "reload_entry",
    "repair_entry",
    "replay_entry",
    "restore_entry",
    "resume_entry",
    "runtime_folder",
]
