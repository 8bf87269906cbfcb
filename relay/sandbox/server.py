"""What the stand-ins have in common: a local server, as a context manager, with what it is to take."""

from collections.abc import Iterable
from types import TracebackType
from typing import ClassVar, Self

from aiohttp import web


class StandIn:
    """A local server. Subclasses say what they take; `doors` are further routes, for looking in from outside."""

    max_body: ClassVar[int] = 128 << 20
    """Bytes; a batch of 100 events of Braze's 900 KB at most fits in."""

    def __init__(self) -> None:
        self.listen = ("127.0.0.1", 0)
        """Host and port; port 0: a free one."""
        self.url = ""
        """Where it listens, once it does."""
        self.doors: list[web.RouteDef] = []

    def routes(self) -> Iterable[web.RouteDef]:
        """What it takes."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        application = web.Application(client_max_size=self.max_body)
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
