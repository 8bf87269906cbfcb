"""Starts and stops the daemon."""

from relay.runtime.daemon import run
from relay.runtime.event_loop import end_tasks, run_main
from relay.runtime.journald import error_mark
from relay.runtime.logs import set_up_logs
from relay.runtime.process import StartError, unusable
from relay.runtime.supervisor import is_needed, supervise
from relay.runtime.worker import Worker, follow_parent

__all__ = [
    "StartError",
    "Worker",
    "end_tasks",
    "error_mark",
    "follow_parent",
    "is_needed",
    "run",
    "run_main",
    "set_up_logs",
    "supervise",
    "unusable",
]
