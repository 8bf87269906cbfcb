"""What a connector delivers to in a suite: an interface, and its form for HTTP."""

import re
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Literal, Self
from uuid import uuid4

from relay.testing.destination import Answer, Behaviour, Destination, Reset

Failure = Literal["refused", "unavailable", "slow", "hanging", "cut", "unauthorized"]
"""How a destination fails.

`refused`: nothing listens. `unavailable`: it says that it cannot at the moment. `slow`: it takes events 0.1 seconds
late. `hanging`: it never answers, and takes nothing. `cut`: it reads, and closes the connection before its answer.
`unauthorized`: it refuses the login.
"""
ID: Final = re.compile(rb"suite-[0-9a-f]{12}")
SLOW_S: Final = 0.1
FAILURES: Final[dict[Failure, Behaviour]] = {
    "unavailable": 503,
    "hanging": Answer(status=503, hang=True),
    "cut": Reset(after_body=True),
    "unauthorized": 401,
}
"""What an HTTP server does for a failure."""


def make_id() -> str:
    """Return an id of an event that can be found in bytes of any form."""
    return f"suite-{uuid4().hex[:12]}"


def find_ids(content: bytes) -> list[str]:
    """Return the ids of the suite's events in bytes, in order."""
    return [found.decode() for found in ID.findall(content)]


class SuiteDestination:
    """A destination for one behaviour. Subclass it for a broker, a database or a folder.

    The suite enters it with `async with`, in the loop of the behaviour. Share what starts slowly, such as a server,
    between objects, and give each object a topic or a table of its own.
    """

    address: Any = ""
    """What `make` of the suite gets. It stays the same after a failure."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    async def arrived(self) -> list[str]:
        """Return the ids of all events that have arrived, duplicates included. `find_ids` finds them in bytes."""
        raise NotImplementedError

    async def distinct(self) -> list[str]:
        """Return the ids of the events as the destination counts them: once, where it can tell a duplicate.

        The default is `arrived`.
        """
        return await self.arrived()

    async def fail_with(self, failure: Failure) -> None:
        """Fail in this way from now on. Raises NotImplementedError for a failure that cannot be made."""
        raise NotImplementedError(f"the destination of this suite cannot be {failure}")

    async def recover(self) -> None:
        """Take events again."""


class HttpDestination(SuiteDestination):
    """A real HTTP server on a free local port."""

    def __init__(self, answer: Answer | None = None) -> None:
        """`answer`: what the server says when it takes a request; None: 200 with `{}`."""
        self._well = answer or Answer()
        self.server = Destination()

    async def __aenter__(self) -> Self:
        await self.server.__aenter__()
        self.server.behaviour = self._well
        self.address = self.server.url
        self._ids: list[str] = []
        self._looked_at = 0
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.server.__aexit__(kind, error, traceback)

    async def arrived(self) -> list[str]:
        """Return the ids in the bodies of accepted requests."""
        for request in self.server.requests[self._looked_at :]:
            self._looked_at += 1
            self._ids += find_ids(request.body) if request.taken else ()
        return self._ids.copy()

    async def distinct(self) -> list[str]:
        """Return each id once: a destination over HTTP goes by ids, or by the key of a request."""
        return [*dict.fromkeys(await self.arrived())]

    async def fail_with(self, failure: Failure) -> None:
        """Answer with a failure, or stop listening."""
        if failure == "refused":
            await self.server.stop()
        else:
            self.server.behaviour = replace(self._well, delay=SLOW_S) if failure == "slow" else FAILURES[failure]

    async def recover(self) -> None:
        """Answer well, on the same port."""
        self.server.behaviour = self._well
        self.server.script.clear()
        self.server.choose = None
        self.server.release()
        await self.server.start()
