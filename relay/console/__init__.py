"""The console: relay in a browser, in a process of its own that knows the daemon by its admin socket alone."""

from relay.console.process import ConsoleError, run_console
from relay.console.settings import ConsoleOptions

__all__ = ["ConsoleError", "ConsoleOptions", "run_console"]
