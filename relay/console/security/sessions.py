"""The sessions of the console, in memory alone: a new start of the console ends them all."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

IDLE_S: Final = 1800.0
"""Seconds without a request after which a session ends."""
LONGEST_S: Final = 12 * 3600.0
MOST: Final = 1000
"""Sessions at a time. Beyond that the session ends that was used the longest ago."""
RANDOM_BYTES: Final = 32
Way = Literal["secret", "link", "proxy"]


def make_random_text() -> str:
    """Return 256 random bits as text."""
    return secrets.token_urlsafe(RANDOM_BYTES)


@dataclass(slots=True)
class Session:
    """A user who is signed in."""

    user: str
    way: Way
    """How the user came in."""
    began: float
    used: float
    token: str = field(default_factory=make_random_text)
    """What every form of the user holds, so that no other site can send one."""


class Sessions:
    """The sessions by their random id."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._found: dict[str, Session] = {}

    def begin(self, user: str, way: Way) -> tuple[str, Session]:
        """Begin a session; return its id and the session."""
        now = self._clock()
        self._found = {key: one for key, one in self._found.items() if self._is_alive(one)}
        if len(self._found) >= MOST:
            del self._found[min(self._found, key=lambda key: self._found[key].used)]
        key = make_random_text()
        session = self._found[key] = Session(user, way, began=now, used=now)
        return key, session

    def find(self, id: str, *, is_use: bool = True) -> Session | None:
        """Return the session; None if there is none, or it has ended. A live page is no use of a session."""
        session = self._found.get(id)
        if session is None:
            return None
        if not self._is_alive(session):
            self.end(id)
            return None
        if is_use:
            session.used = self._clock()
        return session

    def _is_alive(self, session: Session) -> bool:
        now = self._clock()
        return now - session.used < IDLE_S and now - session.began < LONGEST_S

    def end(self, id: str) -> None:
        """End a session, if it is there."""
        self._found.pop(id, None)
