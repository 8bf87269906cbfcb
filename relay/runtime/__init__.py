"""Starts and stops the daemon."""

from relay.runtime.daemon import StartError, run
from relay.runtime.logs import set_up_logs

__all__ = ["StartError", "run", "set_up_logs"]
