"""The time of the database's server. Nothing in the log depends on the clock of a relay's machine."""

import time


class ServerTime:
    """The server's clock as it was read last, plus the seconds since then. Threads share it."""

    def __init__(self) -> None:
        self._ahead = time.time() - time.monotonic()

    def note(self, now_us: int) -> None:
        """Note the server's time, in Unix microseconds."""
        self._ahead = now_us / 1e6 - time.monotonic()

    def read(self) -> float:
        """Return the server's time in Unix seconds; the machine's time before the server's time is known."""
        return self._ahead + time.monotonic()
