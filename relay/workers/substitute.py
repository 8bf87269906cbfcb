"""Answers senders in place of absent workers: 503 and Retry-After, so that nobody waits in a socket.

A worker that dies is usually back within a second or two, and connections wait that long. A socket whose workers have
all been away for AWAY_S is attended here until one is back.
"""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from socket import AF_UNIX, socket
from typing import Final

import structlog
from aiohttp import web

from relay.config import TlsError, TlsSettings, format_address
from relay.ingest import make_busy
from relay.listen import Acceptor, Certificates, ListenerLimits, Server
from relay.threads import ADMIN
from relay.workers.respawn import Supervised

AWAY_S: Final = 5.0
LOOK_S: Final = 0.5
RETRY_AFTER_S: Final = 5
STOP_S: Final = 2.0
LIMITS: Final = ListenerLimits(head=5.0, idle=5.0, answer=5.0, connections=1024)
REASON: Final = "the worker that has this connection is away for the moment"
log = structlog.stdlib.get_logger()


class Substitute:
    """Attends the sockets of absent workers."""

    def __init__(
        self,
        workers: Sequence[Supervised],
        sockets: Sequence[Sequence[socket]],
        tls: Callable[[], TlsSettings | None],
    ) -> None:
        """`sockets`: the sockets of each worker; several may share one."""
        self._tls = tls
        self._workers = {
            one: [worker for worker, mine in zip(workers, sockets, strict=False) if one in mine]
            for one in {one for mine in sockets for one in mine}
        }
        self._certificates: Certificates | None = None
        self._accepting: dict[socket, Acceptor] = {}
        self._server = Server(_refuse, "ingest", LIMITS, auto_decompress=False)
        self._runner = web.ServerRunner(self._server, handle_signals=False, shutdown_timeout=STOP_S)
        self._looking = asyncio.Lock()

    async def run(self) -> None:
        """Attend sockets until cancelled."""
        await self._runner.setup()
        with suppress(TlsError):  # it is told once somebody is to be answered
            await ADMIN.run(self._make_context)
        try:
            while True:
                await self.check()
                await asyncio.sleep(LOOK_S)
        finally:
            for acceptor in self._accepting.values():
                acceptor.close()
            await self._runner.cleanup()

    async def check(self) -> None:
        """Start where workers are away, and stop where one is back."""
        async with self._looking:
            for one, workers in self._workers.items():
                numbers = [each.worker.number for each in workers]
                told = {"workers": numbers, "listen": format_address(one.getsockname())}
                is_away, is_attended = all(worker.silence > AWAY_S for worker in workers), one in self._accepting
                if is_attended and not is_away:
                    self._accepting.pop(one).close()
                    log.info("worker is back at its socket", **told)
                elif is_away and not is_attended:
                    try:
                        context = None if one.family == AF_UNIX else await ADMIN.run(self._make_context)
                        self._accepting[one] = Acceptor(self._server, one.dup(), context)
                    except (TlsError, OSError) as error:
                        log.error("worker is away and nobody answers in its place", **told, reason=str(error))
                    else:
                        is_news = any(worker.ready.is_set() for worker in workers)
                        tell = log.error if is_news else log.info  # a first start may take long, with a large journal
                        tell("worker is away, its senders are answered 503", **told, always=True)

    def _make_context(self) -> ssl.SSLContext | None:
        """Make a TLS context from the present files. A bad certificate replaces no good one. Raises TlsError."""
        if (tls := self._tls()) is None:
            return None
        if self._certificates is None:
            self._certificates = Certificates(tls)
        with suppress(TlsError):  # the workers tell it
            self._certificates.reload_blocking(tls.reread())
        return self._certificates.context


async def _refuse(request: web.BaseRequest) -> web.Response:
    response = make_busy(REASON, RETRY_AFTER_S).make_response(request)
    response.force_close()  # the next connection may reach a worker
    return response
