"""When to try again. Pure."""

import random
from typing import Final

MAX_RETRY_AFTER_S: Final = 3600.0
"""A destination's Retry-After is honoured up to this many seconds."""


def retry_delay(attempt: int, *, first: float, longest: float, after: float | None, chance: random.Random) -> float:
    """Seconds to wait after attempt number `attempt` (from 1) failed.

    Exponential backoff with full jitter: uniform in 0 .. min(longest, first * 2^(attempt-1)); never earlier than the
    destination's own Retry-After.
    """
    ceiling = min(longest, first * 2.0 ** min(attempt - 1, 60))
    return max(chance.uniform(0, ceiling), min(after or 0.0, MAX_RETRY_AFTER_S))
