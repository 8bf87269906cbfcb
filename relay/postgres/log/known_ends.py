"""How far this process knows the logs: acknowledged events that a database may lack when it comes back.

How it fails and recovers: a standby that was not synchronous may be promoted, and lack events that senders were told
are safe. No block gets the offset of such an event. Each process remembers how far the logs had come, for as long as
the process runs. When the server has another timeline, each process tells the database what it remembers, before any
segment begins under that timeline.
"""

import threading
from collections.abc import Mapping


class KnownEnds:
    """By partition the offset behind the last event that this process knows to be acknowledged. Threads share it."""

    def __init__(self) -> None:
        self._ends: dict[int, int] = {}
        self._lock = threading.Lock()

    def note(self, partition: int, end: int) -> None:
        """Note that the events below this offset are acknowledged."""
        with self._lock:
            self._ends[partition] = max(end, self._ends.get(partition, 0))

    def find(self, partition: int) -> int:
        """Return how far this process knows a log; 0 if it knows nothing."""
        return self._ends.get(partition, 0)

    def read(self) -> Mapping[int, int]:
        """Return all that this process knows."""
        with self._lock:
            return dict(self._ends)
