"""Limits how often somebody tries to sign in."""

import time
from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network
from typing import Final

from relay.api.internal import Peer

TRIES: Final = 5
PERIOD_S: Final = 60.0
MOST: Final = 10_000
"""Addresses that are remembered. Beyond that the oldest are forgotten."""
PREFIX: Final = 64
"""Bits of an IPv6 address that name a network of one customer, who has all addresses in it."""


class Throttle:
    """Counts tries by address."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tries: dict[str, list[float]] = {}

    def count_try(self, address: Peer | None) -> float:
        """Count a try; return the seconds to wait if there were too many, else 0."""
        now, key = self._clock(), _name_network(address)
        recent = [at for at in self._tries.pop(key, []) if now - at < PERIOD_S]
        is_allowed = len(recent) < TRIES
        self._tries[key] = [*recent, now] if is_allowed else recent
        while len(self._tries) > MOST:
            del self._tries[next(iter(self._tries))]
        return 0.0 if is_allowed else PERIOD_S - (now - recent[0])


def _name_network(address: Peer | None) -> str:
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), PREFIX), strict=False))
    return str(address)
