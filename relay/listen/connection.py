"""One connection: limits the time and size of its requests, and logs its faults without the request's bytes.

aiohttp parses and answers; this runs beside it. It costs a few instructions per piece of data, and nothing per request:
the server checks now and then whether a connection is late.
"""

from asyncio import BaseTransport, Task, Transport
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.web_protocol import RequestPayloadError

from relay.listen.limits import HEAD_BYTES, ListenerLimits
from relay.listen.refusal import BAD_BODY, BAD_MESSAGE, BUG, LONG_HEAD, Refusal, make_refusal

if TYPE_CHECKING:
    from relay.listen.open_connections import Server

READER_GONE: Final = ("Connection closed.",)
"""The message of aiohttp's RuntimeError for the body of a closed connection."""


class Connection(web.RequestHandler):
    """The server's side of a connection."""

    __slots__ = ("_closing", "_head_began", "_head_size", "_server", "_stalled", "_wire", "client", "connecting")

    def __init__(
        self, server: "Server", address: object, connecting: Task[None] | None, options: Mapping[str, Any]
    ) -> None:
        """`address`: the client's at the time of accepting. A connection that was reset has none."""
        super().__init__(server, **options)
        self._server = server
        self._cache["peername"] = address  # what aiohttp would ask the socket for
        self._wire: Transport | None = None
        """The transport; aiohttp forgets its own when it begins to close it."""
        self._closing: float | None = None
        """When it was first found closing."""
        self.client = describe_client(address)
        """The client, for the log."""
        self.connecting = connecting
        """The task that accepted it; it ends when the connection is made."""
        self._head_began: float | None = self._loop.time()
        """When the awaited head began; None: it has not begun, or is complete."""
        self._head_size = 0
        self._stalled: float | None = None
        """Since when the client has left its answer unread."""

    @property
    def is_free(self) -> bool:
        """Return whether no request is under way, so that closing it loses nothing."""
        return not self._request_in_progress and not self._messages

    @property
    def waiting_since(self) -> float:
        """When it was made, or when its last request was answered."""
        return self._next_keepalive_close_time - self._keepalive_timeout

    def connection_made(self, transport: BaseTransport) -> None:
        """Count the connection."""
        self._wire = cast("Transport", transport)
        super().connection_made(transport)
        self._server.count_made(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Count the connection no longer."""
        self._server.open.pop(self, None)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Note that the client does not read its answer."""
        super().pause_writing()
        self._stalled = self._loop.time()

    def resume_writing(self) -> None:
        """Note that the client reads again."""
        super().resume_writing()
        self._stalled = None

    def data_received(self, data: bytes) -> None:
        """Parse the data, and check the progress of the request."""
        try:
            super().data_received(data)
        except Exception:  # whatever a parser stumbles over: asyncio would log it with the bytes
            self.refuse(BAD_MESSAGE)
            return
        waiter = self._waiter
        if waiter is None:
            if self._messages:
                # Another request came before this one was answered, or the parser gave up in the middle of its body
                self._head_began = None
                message, _ = self._messages[-1]
                request = self._current_request
                if request is not None and not request.content.is_eof() and not isinstance(message, RawRequestMessage):
                    request.content.set_exception(RequestPayloadError(BAD_BODY.reason))
            elif not self._request_count:  # aiohttp has not begun to wait: it came with the connection
                self._check_head(len(data))
        elif waiter.done():
            self._head_began = None
        elif data:
            self._check_head(len(data))

    def _check_head(self, size: int) -> None:
        if self._head_began is None:
            self._head_began, self._head_size = self._loop.time(), 0
        self._head_size += size
        if self._head_size > HEAD_BYTES:
            self.refuse(LONG_HEAD)

    def close_if_late(self, now: float, limits: ListenerLimits) -> None:
        """Close the connection if its client takes too long for a request, or to read an answer."""
        began, stalled = self._head_began, self._stalled
        if self._wire is not None and self._wire.is_closing():
            if self._closing is None:
                self._closing = now
            elif now - self._closing > limits.head:
                self._server.count_refusal(self._server.unread, self.client)
                self.abort()
        elif stalled is not None and limits.answer is not None and now - stalled > limits.answer:
            self._server.count_refusal(self._server.unread, self.client)
            self.abort()
        elif began is not None and now - began > limits.head and self.is_free:
            if limits.opens_ahead and not self._head_size:
                self.force_close()
            else:
                self.refuse(self._server.late, answered=self._head_size > 0)

    def refuse(self, refusal: Refusal, *, answered: bool = True) -> None:
        """Log the reason, send it to a client that has begun to send, and close the connection."""
        if self.transport is None:
            return
        self._server.count_refusal(refusal, self.client)
        if answered and self.is_free:
            self.transport.write(refusal.answer)
        self.force_close()

    def abort(self) -> None:
        """Close the connection at once, whatever is still to be sent, and count it no longer."""
        self._server.open.pop(self, None)
        if self._wire is not None:
            self._wire.abort()
        self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer an unparsable request, or a failed handler."""
        if self._is_broken_off(exc):
            raise ConnectionError("there is nobody left to answer")
        if status < BUG.status:
            refusal = make_refusal(exc)
            self._server.count_refusal(refusal, self.client)
        else:
            refusal = BUG
            self.log_exception(exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun, and cannot be another one")
        return refusal.make_response()

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log a bug, unless the client has only left during its body."""
        error = kw.get("exc_info")
        if not self._is_broken_off(error):
            self._server.log_bug(error, self.client)

    def _is_broken_off(self, error: BaseException | None) -> bool:
        """Return whether the failure is a client that has broken off."""
        gone = isinstance(error, RuntimeError) and error.args == READER_GONE
        return self.transport is None and (gone or isinstance(error, ConnectionError))


def describe_client(address: object) -> str:
    """Return the address of a client for the log."""
    if isinstance(address, tuple) and address:
        return str(address[0]).removeprefix("::ffff:")  # as a listener for both sees IPv4
    return "unknown" if address is None else "unix"
