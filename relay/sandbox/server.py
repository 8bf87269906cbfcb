"""What the stand-ins have in common: a local server, as a context manager, with faults on demand."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import ClassVar, Final, Self

from aiohttp import web
from aiohttp.typedefs import Handler

from relay.sandbox.switches import ServerSwitches

DOORS: Final = "/_sandbox/"
"""Paths that are not the original's start so; they have no faults."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What to do to a request instead of the right thing."""

    status: int = 503
    applied: bool | None = None
    """Whether the request has its effect all the same; None: if the status is 2xx."""
    delay: float = 0.0
    """Real seconds to wait before it is looked at."""
    cut: bool = False
    """Read half of the body, then close the connection without an answer."""

    @property
    def has_effect(self) -> bool:
        """Whether the request is taken."""
        return 200 <= self.status < 300 if self.applied is None else self.applied


class Refused(Exception):
    """The answer to a request that cannot be taken."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class StandIn:
    """A local server. Subclasses say what they take; `doors` are further routes, for looking in from outside."""

    max_body: ClassVar[int] = 128 << 20
    """Bytes; a batch of 100 events of Braze's 900 KB at most fits in."""

    def __init__(self, switches: ServerSwitches, clock: Callable[[], float] = time.time) -> None:
        self.switches = switches
        self.clock = clock
        self.listen = ("127.0.0.1", 0)
        """Host and port; port 0: a free one."""
        self.url = ""
        """Where it listens, once it does."""
        self.doors: list[web.RouteDef] = []
        self.faults = deque[int | Fault]()
        """Taken one per request before it behaves again; a number is a status."""
        self.statuses: Counter[int] = Counter()
        """How many requests were answered what."""
        self._rng = Random()

    def routes(self) -> Iterable[web.RouteDef]:
        """What it takes."""
        raise NotImplementedError

    def admit(self) -> None:
        """Count a request. Raises Refused when there are too many."""

    def headers(self) -> Mapping[str, str]:
        """What every answer has."""
        return {}

    def answer(self, status: int, message: str) -> web.Response:
        """An answer in the original's form."""
        return web.Response(status=status, text=message)

    async def __aenter__(self) -> Self:
        application = web.Application(client_max_size=self.max_body, middlewares=[self._through])
        application.router.add_routes([*self.routes(), *self.doors])
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, *self.listen).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    @web.middleware
    async def _through(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(DOORS):
            return await handler(request)
        answer = await self._answered(request, handler)
        answer.headers.update(self.headers())
        self.statuses[answer.status] += 1
        return answer

    async def _answered(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        fault = self._fault()
        await asyncio.sleep(self.switches.slow + (fault.delay if fault else 0))
        try:
            self.admit()
            if fault and fault.cut:
                await request.content.readexactly((request.content_length or 0) // 2)
                if request.transport is not None:
                    request.transport.abort()
                return web.Response(status=fault.status)
            if fault and not fault.has_effect:
                raise Refused(fault.status, "injected")
            answer = await handler(request)
        except Refused as refused:
            return self.answer(refused.status, str(refused))
        return self.answer(fault.status, "injected") if fault and fault.status != answer.status else answer

    def _fault(self) -> Fault | None:
        if self.faults:
            fault = self.faults.popleft()
            return fault if isinstance(fault, Fault) else Fault(status=fault)
        if self._rng.random() < self.switches.fail:
            return Fault(status=self.switches.fail_status, applied=self.switches.fail_applied)
        return None
