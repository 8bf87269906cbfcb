"""Takes the connections from a listening socket.

Not left to the event loop's own server: that would accept without a bound, keep those in their TLS handshake to itself,
and hang up on everybody without a word once there are no file descriptors left.
"""

import asyncio
import socket
import ssl
from typing import Final

import structlog

from relay.listen.connection import client_of
from relay.listen.server import Server

BURST: Final = 32
"""Connections that are accepted before those that are there get their turn."""
REST_S: Final = 0.5
ADVICE: Final = "raise the limit of open files (LimitNOFILE= in the unit), or see what holds them"
log = structlog.stdlib.get_logger()


class Acceptor:
    """Accepts from one socket, for a server."""

    def __init__(self, server: Server, listening: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        self._server, self._socket, self._tls = server, listening, tls
        self._loop = asyncio.get_running_loop()
        self._rest: asyncio.TimerHandle | None = None
        listening.setblocking(False)
        self._begin()

    def _begin(self) -> None:
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
                # There is no descriptor, or no memory, for another connection: who connects waits in the socket
                told = {"listener": self._server.name, "reason": error.strerror, "advice": ADVICE}
                log.error("no connection can be accepted", **told)
                self._loop.remove_reader(self._socket)
                self._rest = self._loop.call_later(REST_S, self._begin)
                return
            accepted.setblocking(False)
            try:
                self._server.take(accepted, address, self._tls)
            except Exception as bug:  # the others are to be accepted all the same
                accepted.close()
                self._server.tell_bug(bug, client_of(address))

    def close(self) -> None:
        """Accept no more, and let go of the socket."""
        if self._rest is not None:
            self._rest.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()
