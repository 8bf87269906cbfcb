"""The log of a process on standard error: for people on a terminal, else for machines, without secrets."""

from relay.logs.journald import find_error_prefix
from relay.logs.logs import change_logs, count_dropped_lines, set_up_logs

__all__ = ["change_logs", "count_dropped_lines", "find_error_prefix", "set_up_logs"]
