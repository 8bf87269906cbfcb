"""A pause of a connector. Pure."""

from msgspec import Struct


class Pause(Struct, frozen=True):
    """A pause of a connector. Times are Unix seconds."""

    since: float
    until: float | None = None
    """When it ends by itself; None: an admin ends it."""

    def is_over(self, now: float) -> bool:
        """Return whether it has ended by itself."""
        return self.until is not None and self.until <= now
