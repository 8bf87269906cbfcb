"""Times in the fields of forms, in UTC."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from relay.console.security.refusal import ConsoleRefusal

LATEST: Final = 1e11
"""Unix seconds beyond which a time is a mistake."""


def read_time(text: str) -> float:
    """Return a time in UTC, or Unix seconds, as Unix seconds. Raises ConsoleRefusal (400)."""
    for read in (float, _read_date):
        with suppress(ValueError):
            if 0 <= (found := read(text)) < LATEST:
                return found
    raise ConsoleRefusal(400, "a time is written as 2026-01-31T12:00, in UTC")


def write_time(unix_seconds: float) -> str:
    """Return a time as fields of forms have it."""
    return f"{datetime.fromtimestamp(unix_seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def _read_date(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
