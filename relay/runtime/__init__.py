"""Starts and stops the daemon."""

from relay.runtime.daemon import StartError, run
from relay.runtime.logs import set_up_logs
from relay.runtime.supervisor import is_needed, supervise
from relay.runtime.worker import Worker

__all__ = ["StartError", "Worker", "is_needed", "run", "set_up_logs", "supervise"]
