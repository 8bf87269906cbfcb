"""Checks what somebody offers to get in: a user's secret, the one-time link, or the name that a trusted proxy gives."""

import time
from collections.abc import Callable
from hashlib import sha256
from hmac import compare_digest
from typing import Final

from aiohttp import web

from relay.config import ConsoleSettings
from relay.console.security.refusal import ConsoleRefusal
from relay.console.security.sessions import make_random_text
from relay.listen import find_peer

LINK_S: Final = 600.0
"""Seconds that the one-time link is good."""


class OneTimeLink:
    """A key that lets one browser in, once."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._ends = clock, clock() + LINK_S
        self.key = make_random_text()

    def use(self, offered: str) -> bool:
        """Use the key up; return whether it was the right one, in time."""
        is_right = bool(self.key) and _is_same(offered, self.key)
        is_good = is_right and self._clock() < self._ends
        if is_right:
            self.key = ""
        return is_good


def check_secret(settings: ConsoleSettings, name: str, offered: str) -> bool:
    """Return whether this is the secret of the user, as it is now. Takes the same time for a name that is none.

    Blocking: it reads the secret where its reference says.
    """
    user = settings.user.get(name)
    reference = user.secret if user else None
    fresh = None if reference is None else type(reference)(reference.how, reference.name)
    has_one = fresh is not None and fresh.problem is None
    expected = fresh.reveal() if fresh is not None and has_one else make_random_text()
    return _is_same(offered, expected) and has_one


def _is_same(offered: str, expected: str) -> bool:
    digests = [sha256(one.encode("utf-8", "surrogatepass")).digest() for one in (offered, expected)]
    return compare_digest(*digests)


def find_proxied_user(request: web.BaseRequest, settings: ConsoleSettings) -> str | None:
    """Return the user whom a trusted proxy names; None without any.

    Raises ConsoleRefusal for a user who is not in conf.d.
    """
    if settings.user_header is None or find_peer(request) not in settings.trusted_proxies:
        return None
    named = request.headers.getall(settings.user_header, [])
    if not named or not named[0]:
        return None
    if len(named) > 1 or named[0] not in settings.user:
        reason = "the proxy names a user who is not in conf.d: an admin can add [console.user.NAME]"
        raise ConsoleRefusal(403, reason)
    return named[0]
