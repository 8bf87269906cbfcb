"""The base of the stand-ins: a local server, as a context manager, with faults on demand."""

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
"""Start of the paths that the original does not have. Faults do not touch them."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What the server does to a request in place of the right answer."""

    status: int = 503
    applied: bool | None = None
    """Whether the request has its effect; None: if the status is 2xx."""
    delay: float = 0.0
    """Real seconds to wait before the request is read."""
    cut: bool = False
    """Whether to read half of the body, then close the connection without an answer."""

    @property
    def has_effect(self) -> bool:
        """Return whether the request has its effect."""
        return 200 <= self.status < 300 if self.applied is None else self.applied


class Refused(Exception):
    """The answer to a refused request."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class StandIn:
    """A local server. A subclass lists the routes of the original; `doors` are further routes."""

    max_body: ClassVar[int] = 128 << 20
    """Bytes: room for a batch of 100 events of 900 KB, the largest that Braze sends."""

    def __init__(self, switches: ServerSwitches, clock: Callable[[], float] = time.time) -> None:
        self.switches = switches
        self.clock = clock
        self.listen = ("127.0.0.1", 0)
        """Host and port; port 0: a free port."""
        self.url = ""
        """URL of the server, once it listens."""
        self.doors: list[web.RouteDef] = []
        self.faults = deque[int | Fault]()
        """Faults of the next requests, one each; a number is a status."""
        self.statuses: Counter[int] = Counter()
        """Requests by the status of their answer."""
        self._rng = Random()

    def list_routes(self) -> Iterable[web.RouteDef]:
        """Return the routes of the original."""
        raise NotImplementedError

    def admit(self) -> None:
        """Count a request. Raises Refused beyond a limit."""

    def make_headers(self) -> Mapping[str, str]:
        """Return the headers of every answer."""
        return {}

    def answer(self, status: int, message: str) -> web.Response:
        """Make an answer in the form of the original."""
        return web.Response(status=status, text=message)

    async def __aenter__(self) -> Self:
        application = web.Application(client_max_size=self.max_body, middlewares=[self._handle])
        application.router.add_routes([*self.list_routes(), *self.doors])
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
    async def _handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(DOORS):
            return await handler(request)
        fault = self._choose_fault()
        await asyncio.sleep(self.switches.slow + (fault.delay if fault else 0))
        try:
            self.admit()
            if fault and fault.cut:
                await request.content.readexactly((request.content_length or 0) // 2)
                if request.transport is not None:
                    request.transport.abort()
                answer: web.StreamResponse = web.Response(status=fault.status)
            elif fault and not fault.has_effect:
                answer = self.answer(fault.status, "injected")
            else:
                answer = await handler(request)
                if fault and fault.status != answer.status:
                    answer = self.answer(fault.status, "injected")
        except Refused as refused:
            answer = self.answer(refused.status, str(refused))
        answer.headers.update(self.make_headers())
        self.statuses[answer.status] += 1
        return answer

    def _choose_fault(self) -> Fault | None:
        if self.faults:
            fault = self.faults.popleft()
            return fault if isinstance(fault, Fault) else Fault(status=fault)
        if self._rng.random() < self.switches.fail:
            return Fault(status=self.switches.fail_status, applied=self.switches.fail_applied)
        return None
