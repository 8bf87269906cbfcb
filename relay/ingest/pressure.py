"""How much of request bodies is held in memory at a time."""

from typing import Final

from relay.ingest.problem import busy

RETRY_AFTER_S: Final = 1


class Pressure:
    """A budget of bytes that all requests under way share."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self, size: int) -> None:
        """Book bytes; give them back later. Raises Problem (503) beyond the limit."""
        if self.used + size > self.limit:
            raise busy("too many request bodies at a time (ingest.max_in_flight)", RETRY_AFTER_S)
        self.used += size

    def give(self, size: int) -> None:
        """Give booked bytes back."""
        self.used -= size
