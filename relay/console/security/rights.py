"""The three rights of the console's users."""

from enum import IntEnum


class Right(IntEnum):
    """What a user may do. A higher right includes the lower ones."""

    LOOK = 1
    """See types, ids, times and counts; no content of events."""
    STEER = 2
    """See content; pause, resume, replay, drop, forget and erase."""
    CONFIGURE = 3
    """Change the configuration."""

    @classmethod
    def parse(cls, may: str) -> "Right":
        """Return the right with the name of the setting `may`."""
        return cls[may.upper()]

    def __str__(self) -> str:
        return self.name.lower()
