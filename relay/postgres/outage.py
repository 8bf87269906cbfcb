"""Says once that the database is away, or that it has lost relay's tables, and once that either is over.

Any thread may notice it.

How it fails and recovers:

- A lost connection, a refused connection and a statement without an answer begin an outage.
- Any answer ends it, if no thread has met a failure for QUIET_S: servers that stop or start answer some and not others.
- A statement without an answer may have waited for a standby. Reads are answered meanwhile, and so only a commit that
  waits for standbys ends such an outage.
- Nobody uses the database while the cluster's tables are gone, or another cluster's are in their place.
- A single failure, such as a slow commit or a session that an admin ended, is no outage for load balancers. A second
  failure makes one. Only a process with leases commits without senders. So in an outage in which commits wait, a
  process that has met no failure for UNTRIED_S lets senders try.
"""

import threading
import time
from typing import Final

import structlog

from relay.store import Unavailable

QUIET_S: Final = 1.0
UNTRIED_S: Final = 15.0
log = structlog.stdlib.get_logger()


class Outage:
    """What the threads of this process know of whether the database answers."""

    def __init__(self) -> None:
        self._noting = threading.Lock()
        self._began: float | None = None
        self._failed_at = 0.0
        self._reason = ""
        self._awaits_commit = False
        self._loss: Unavailable | None = None
        """What has become of the cluster's tables; None: they are there."""

    @property
    def reason(self) -> str | None:
        """Why the database takes nothing; None if it does, or if that is unknown before a sender tries."""
        with self._noting:
            if self._loss is not None:
                return str(self._loss)
            if self._began is None or self._failed_at <= self._began:
                return None
            is_unknown = self._awaits_commit and time.monotonic() > self._failed_at + UNTRIED_S
            return None if is_unknown else self._reason

    def check_tables(self) -> None:
        """Raise Unavailable while the cluster's tables are not there."""
        if (loss := self._loss) is not None:
            error = Unavailable(str(loss))
            error.is_logged = True
            raise error

    def note_loss(self, error: Unavailable) -> None:
        """Note that the cluster's tables are gone, or that others are in their place."""
        with self._noting:
            if self._loss is None or self._loss.reason != error.reason:  # new tables may have come since
                log.error("the tables of the cluster are gone", reason=str(error))
            self._loss = error
        error.is_logged = True

    def note_tables(self) -> None:
        """Note that the cluster's tables are there."""
        with self._noting:
            if self._loss is not None:
                log.info("the tables of the cluster are back")
            self._loss = None

    def note_failure(self, error: Unavailable, *, is_late: bool) -> None:
        """Note an error of a connection. `is_late`: whether a statement had no answer in time."""
        with self._noting:
            self._failed_at = time.monotonic()
            self._awaits_commit |= is_late
            self._reason = str(error)
            if self._began is None:
                self._began = self._failed_at
                log.error("the database is away", reason=str(error))
        error.is_logged = True

    def note_answer(self, *, is_commit: bool) -> None:
        """Note that the database has answered. `is_commit`: to a commit that waits for standbys."""
        if self._began is None or (self._awaits_commit and not is_commit):
            return
        with self._noting:
            now = time.monotonic()
            if self._began is not None and now >= self._failed_at + QUIET_S:
                log.info("the database is back", after_s=round(now - self._began, 1))
                self._began, self._awaits_commit = None, False
