"""Accepts the connections of a listening socket.

The event loop's own server would accept without a limit, hide connections in their TLS handshake, and hang up without a
word once the file descriptors run out.
"""

import asyncio
import socket
import ssl
from typing import Final

import structlog

from relay.listen.connection import describe_client
from relay.listen.open_connections import Server

BURST: Final = 32
"""Connections accepted before present ones get their turn."""
REST_S: Final = 0.5
ADVICE: Final = "raise the limit of open files (LimitNOFILE= in the unit), or see what holds them"
log = structlog.stdlib.get_logger()


class Acceptor:
    """Accepts connections from one socket for a server."""

    def __init__(self, server: Server, listening: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        self._server, self._socket, self._tls = server, listening, tls
        self._loop = asyncio.get_running_loop()
        self._rest: asyncio.TimerHandle | None = None
        listening.setblocking(False)
        self._resume()

    def _resume(self) -> None:
        self._loop.add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        for _ in range(BURST):
            if self._server.is_settling:
                return
            try:
                accepted, address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return  # another worker was quicker, or the client has gone
            except OSError as error:
                # No descriptor or memory is left for another connection: the clients wait in the socket
                told = {"listener": self._server.name, "reason": error.strerror, "advice": ADVICE}
                log.error("no connection can be accepted", **told)
                self._loop.remove_reader(self._socket)
                self._rest = self._loop.call_later(REST_S, self._resume)
                return
            accepted.setblocking(False)
            try:
                self._server.take(accepted, address, self._tls)
            except Exception as bug:  # the others are to be accepted all the same
                accepted.close()
                self._server.log_bug(bug, describe_client(address))

    def close(self) -> None:
        """Accept no more, and close the socket."""
        if self._rest is not None:
            self._rest.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()
