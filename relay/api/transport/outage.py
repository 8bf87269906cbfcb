"""Which exceptions say that a destination cannot be reached, and how: in words for people, without secrets.

They derive from OSError (as ConnectionError, TimeoutError, TLS and name errors do, and many errors of libraries),
aiohttp.ClientError, EOFError (a connection that ends too early) or http.client.HTTPException. A mistake in the code of
a connector may raise OSError as well, for a file that is not there: it is tried again, and the reason names the file.
"""

import os
import re
import socket
import ssl
from http.client import HTTPException
from typing import Final

import aiohttp

from relay.api.outcome import Reject, Retry, Unauthorized
from relay.api.store import StoreError
from relay.api.text import cut
from relay.api.transport.answer import make_failure

TOLD_CHARACTERS: Final = 200
"""The longest excerpt of a text that a library or a destination has written."""
REASON_CHARACTERS: Final = 1000
_URL: Final = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*://)(?:[^\s/@\"']*@)?([^\s/?#\"'<>]*)[^\s\"'<>]*")


def find_outcome(error: BaseException) -> Retry | Reject | Unauthorized | None:
    """Return the outcome of an exception about a destination; None for an exception that is a bug.

    `raise_for_status` gives the outcome of the status. A group of exceptions, as by TaskGroup, gives the outcome of its
    members: `Unauthorized` before `Retry` before `Reject`. A bug among the members makes it None."""
    match error:
        case Retry() | Reject() | Unauthorized():
            return error
        case StoreError():
            return Retry(str(error))
        case TimeoutError() if not isinstance(error, aiohttp.ClientError):
            return Retry("no answer in time")
        case aiohttp.InvalidURL():  # made up by the connector
            return None
        case aiohttp.ClientResponseError() if _is_refusal(error):
            reason = f"HTTP {error.status}: {_clean(error.message)}"
            return make_failure(error.status, error.headers or {}, reason)
        case OSError() | aiohttp.ClientError() | EOFError() | HTTPException():
            return Retry(describe_failure(error))
        case BaseExceptionGroup():
            outcomes = [find_outcome(one) for one in error.exceptions]
            if None not in outcomes:
                return next(one for kind in (Unauthorized, Retry, Reject) for one in outcomes if isinstance(one, kind))
    return None


def _is_refusal(error: aiohttp.ClientResponseError) -> bool:
    """Return whether the destination sent the status. aiohttp makes up a status for an answer that is no HTTP."""
    return type(error) is aiohttp.ClientResponseError and error.__cause__ is None and error.status >= 300


def describe_failure(error: BaseException, place: str = "") -> str:  # noqa: C901  a table
    """Describe what went wrong on the way to a destination; `place` is its host and port."""
    cause = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error
    if not place and (host := getattr(error, "host", None)) and isinstance(error, aiohttp.ClientConnectorError):
        place = f"{host}:{error.port}" if error.port else str(host)
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return describe_failure(error.os_error, f"the proxy {error.host}:{error.port}")
    where = f"{place}: " if place else ""
    match cause:
        case aiohttp.ClientHttpProxyError():
            return f"{where}the proxy does not connect to it: HTTP {cause.status} {_clean(cause.message)}"
        case TimeoutError():
            return f"{place or 'the destination'} did not answer in time"
        case socket.gaierror():
            return f"{where}there is no such host: {cause.strerror}"
        case ssl.SSLError():
            return (
                f"{where}TLS: {getattr(cause, 'verify_message', '') or getattr(cause, 'reason', '') or _clean(cause)}"
            )
        case aiohttp.ServerDisconnectedError():
            return f"{place or 'the destination'} closed the connection without an answer"
        case aiohttp.ContentTypeError():
            return f"{where}its answer is not what was expected: HTTP {cause.status}, {_clean(cause.message)}"
        case aiohttp.ClientResponseError():
            return f"{where}its answer is no HTTP: {_clean(cause.message)}"
        case OSError(errno=int(number)) if number > 0:
            # Name the file or address of an error of the system, unless the place names it
            text = os.strerror(cause.errno or 0)
            about = cause.filename if cause.filename is not None else cause.strerror
            return where + (f"{text} ({_clean(about)})" if not place and about not in (None, text) else text)
        case OSError() | EOFError() | HTTPException():
            return f"{where}{_describe_error(cause)}"
    return f"{where}{type(cause).__name__}" if place else _describe_error(cause)


def _describe_error(error: BaseException) -> str:
    text = _clean(error, REASON_CHARACTERS)
    return text if text and type(error) is OSError else f"{type(error).__name__}: {text}".removesuffix(": ")


def _clean(text: object, most: int = TOLD_CHARACTERS) -> str:
    """Return the text in one line, cut; of each URL in it keep the host alone."""
    return cut(_URL.sub(r"\1\2", " ".join(str(text).split())), most)
