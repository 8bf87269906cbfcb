"""A replay: a range of the journal to deliver once more. Pure."""

import json
import time
from collections.abc import Sequence
from typing import Any, Final, Literal

from msgspec import Struct, field

from relay.store.cursor import CURSOR_COLUMNS, Cursor, parse_cursor

REPLAY_COLUMNS: Final = (
    f"number, connector, stop, entries, rate, asked, saved, ended, cancelled, asked_by, {CURSOR_COLUMNS}"
)
"""The columns of a replay in a table; `entries` is JSON."""


class Replay(Struct, frozen=True):
    """A range of the journal, from the cursor's start up to `stop`, for a connector to get again."""

    connector: str
    cursor: Cursor
    stop: int
    entries: Sequence[str] = ("*",)
    """Entries of a selection. Only events that the connector's own selection wants as well are replayed."""
    rate: float = 0.0
    """Events per second at most, beside the connector's own limit; 0: no limit."""
    number: int = 0
    """Its number for admins, given by the database."""
    asked: float = field(default_factory=time.time)
    """Unix seconds."""
    saved: float | None = None
    ended: float | None = None
    cancelled: float | None = None
    asked_by: str = ""
    """Who requested it."""

    @property
    def status(self) -> Literal["waiting", "running", "done", "cancelled"]:
        """Its progress. A running replay continues after a restart."""
        if self.ended:
            return "done"
        if self.cancelled:
            return "cancelled"
        return "running" if self.saved else "waiting"


def parse_replay(*row: Any) -> Replay:
    """Parse the replay of a row with `REPLAY_COLUMNS`."""
    number, connector, stop, entries, rate, *times = row[:10]
    return Replay(connector, parse_cursor(*row[10:]), stop, json.loads(entries), rate, number, *times)
