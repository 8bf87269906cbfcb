"""The admin API: HTTP on a unix socket for status, metrics, health, parked events and control."""

from relay.admin.acts import (
    make_accept_entry,
    make_cancel_entry,
    make_copy_entry,
    make_erasure_entry,
    make_forget_entry,
    make_parked_entry,
    make_pause_entry,
    make_reload_entry,
    make_repair_entry,
    make_replay_entry,
    make_restore_entry,
    make_resume_entry,
)
from relay.admin.question_process import DEADLINE_S, QuestionProcess
from relay.admin.server import RELOAD_AS_VALUE, Admin, Bound, bind, find_runtime_folder
from relay.admin.tail import Tap

__all__ = [
    "DEADLINE_S",
    "RELOAD_AS_VALUE",
    "Admin",
    "Bound",
    "QuestionProcess",
    "Tap",
    "bind",
    "find_runtime_folder",
    "make_accept_entry",
    "make_cancel_entry",
    "make_copy_entry",
    "make_erasure_entry",
    "make_forget_entry",
    "make_parked_entry",
    "make_pause_entry",
    "make_reload_entry",
    "make_repair_entry",
    "make_replay_entry",
    "make_restore_entry",
    "make_resume_entry",
]
