"""Connections to destinations: an answer counts by its status, whatever the rest of it is like.

A destination that has answered 2xx has the events. aiohttp drops an answer whose head or body its parser does not like
(a `Content-Length` given twice, a body behind a 204, a head that breaks off). Here the status line decides then: no
event is sent again for what comes after it. The connection is not used again.
"""

import asyncio
import re
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError, HttpVersion11, RawResponseMessage
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from relay.api.transport.authorities import Deferred

LINE_BYTES: Final = 100 << 10
"""Longest line of a head; the same as curl's."""
HEADERS: Final = 5000
"""Most headers of an answer; the same as curl's."""
HEAD_BYTES: Final = 300 << 10
"""What is kept of a head at most; the same as curl's. Nothing beyond it is waited for."""
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] +([1-9]\d\d)[ \r\n]")
_END_OF_HEAD: Final = re.compile(rb"\r?\n\r?\n")


class Connections(aiohttp.TCPConnector):
    """A pool of connections to destinations."""

    def __init__(
        self,
        *,
        limit: int,
        resolver: AbstractResolver,
        context: ssl.SSLContext | None = None,
        proxies: Callable[[URL], Any] | None = None,
    ) -> None:
        """`context`: the TLS context, if not the usual; `proxies`: returns the proxy for a URL, as `proxy.Via`."""
        super().__init__(limit=limit, resolver=resolver, ssl=context or True)
        self._proxies = proxies
        factory: Any = partial(DestinationConnection, self._loop)
        self._factory = factory

    async def connect(self, req: aiohttp.ClientRequest, *arguments: Any, **options: Any) -> Any:
        """Connect for a request, through the proxy of its URL if there is a proxy."""
        if req.is_ssl() and isinstance(context := self._get_ssl_context(req), Deferred):
            await asyncio.to_thread(context.read)
        if self._proxies is not None and (via := self._proxies(req.url)):
            req.update_proxy(via.url, None, via.headers)
            if not req.is_ssl():  # then the proxy reads the request itself
                req.headers.update(via.headers)
        return await super().connect(req, *arguments, **options)


class DestinationConnection(ResponseHandler):
    """One connection. It keeps an answer's head until aiohttp has read it."""

    def __init__(self, loop: Any) -> None:
        super().__init__(loop)
        self._head: bytearray | None = None
        """None: no answer is due, or its head has been read."""

    def set_response_params(self, **params: Any) -> None:
        """Begin to wait for an answer."""
        self._head = bytearray()
        super().set_response_params(**params)

    def feed_data(self, data: tuple[RawResponseMessage, Any], size: int = 0) -> None:
        """Hand over a complete head. A 1xx precedes the answer, so keep on collecting."""
        if data[0].code >= 200:
            self._head = None
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the destination. Give up after HEAD_BYTES of a head."""
        if self._head is not None:
            self._head += data
        super().data_received(data)
        if self._head is not None and len(self._head) > HEAD_BYTES:
            self.abort()  # first: it forgets an exception that nobody has read yet
            self.set_exception(HttpProcessingError(message=f"no status but 1xx in its first {HEAD_BYTES >> 10} KiB"))

    def set_exception(self, exc: BaseException, *cause: Any) -> None:
        """Give up on the connection. A status that has arrived is the answer."""
        head, self._head = self._head, None
        if head and (message := _read_leniently(bytes(head))):
            self.force_close()
            self.feed_data((message, aiohttp.streams.EMPTY_PAYLOAD))
        else:
            super().set_exception(exc, *cause)


def _read_leniently(head: bytes) -> RawResponseMessage | None:
    """Read the status after any 1xx, and all readable headers; return None if there is no status yet."""
    at = 0
    while (line := _STATUS_LINE.match(head, at)) and line[1].startswith(b"1"):
        end = _END_OF_HEAD.search(head, at)
        at = end.end() if end else len(head)
    if line is None:
        return None
    lines = _END_OF_HEAD.split(head[at:], maxsplit=1)[0].splitlines()[1:]
    fields = [(name.strip(), value.strip()) for name, colon, value in (one.partition(b":") for one in lines) if colon]
    headers = CIMultiDict((name.decode("latin-1"), value.decode("utf-8", "surrogateescape")) for name, value in fields)
    return RawResponseMessage(
        HttpVersion11, int(line[1]), "", CIMultiDictProxy(headers), tuple(fields), True, None, False, False
    )
