"""Starts, runs, reloads and stops the daemon."""

from relay.runtime.condition_watch import ConditionWatch
from relay.runtime.daemon import Load, run
from relay.runtime.event_loop import end_tasks, run_main
from relay.runtime.history_writer import History
from relay.runtime.journald import error_mark
from relay.runtime.logs import change_logs, dropped_log_lines, set_up_logs
from relay.runtime.process import StartError, cannot_listen, inherited, on_signal, unusable
from relay.runtime.reload import HANGUP, changed_alerts_and_settings, guarded, in_full, refused, waiting
from relay.runtime.state_folder import doubts_in, failing_erasures_in, forgotten, parked_in
from relay.runtime.systemd import Notify
from relay.runtime.watchdog import ADVICE, BEAT_S, sentence
from relay.runtime.worker import FAILURE, Worker, follow_parent, handed

__all__ = [
    "ADVICE",
    "BEAT_S",
    "FAILURE",
    "HANGUP",
    "ConditionWatch",
    "History",
    "Load",
    "Notify",
    "StartError",
    "Worker",
    "cannot_listen",
    "change_logs",
    "changed_alerts_and_settings",
    "doubts_in",
    "dropped_log_lines",
    "end_tasks",
    "error_mark",
    "failing_erasures_in",
    "follow_parent",
    "forgotten",
    "guarded",
    "handed",
    "in_full",
    "inherited",
    "on_signal",
    "parked_in",
    "refused",
    "run",
    "run_main",
    "sentence",
    "set_up_logs",
    "unusable",
    "waiting",
]
