"""Starts, runs, reloads and stops the daemon."""

from relay.runtime.announcer import Announcer
from relay.runtime.condition_watch import ConditionWatch
from relay.runtime.daemon import Load, run
from relay.runtime.event_loop import end_tasks, run_main
from relay.runtime.history_writer import History
from relay.runtime.process import (
    StartError,
    explain_listen_errors,
    freeze_objects,
    make_folder_error,
    on_signal,
    take_inherited,
)
from relay.runtime.reload_report import (
    HANGUP,
    catch_bug,
    make_refused,
    reload_and_report,
)
from relay.runtime.stored import forget_removed, merge_with_stored
from relay.runtime.watchdog import ADVICE, BEAT_S, describe_flow
from relay.runtime.worker import FAILURE, Worker, find_leftover, follow_parent, needs_workers, write_to_memory

__all__ = [
    "ADVICE",
    "BEAT_S",
    "FAILURE",
    "HANGUP",
    "Announcer",
    "ConditionWatch",
    "History",
    "Load",
    "StartError",
    "Worker",
    "catch_bug",
    "describe_flow",
    "end_tasks",
    "explain_listen_errors",
    "find_leftover",
    "follow_parent",
    "forget_removed",
    "freeze_objects",
    "make_folder_error",
    "make_refused",
    "merge_with_stored",
    "needs_workers",
    "on_signal",
    "reload_and_report",
    "run",
    "run_main",
    "take_inherited",
    "write_to_memory",
]
