"""HTTP listeners with limits of time, size and number. The log never repeats what strangers send."""

from aiohttp import web_response

from relay.listen.acceptor import Acceptor
from relay.listen.error import ListenError, convert_errors
from relay.listen.limits import ListenerLimits, raise_descriptor_limit
from relay.listen.open_connections import AppRunner, Server

__all__ = [
    "Acceptor",
    "AppRunner",
    "ListenError",
    "ListenerLimits",
    "Server",
    "convert_errors",
    "raise_descriptor_limit",
]

web_response.SERVER_SOFTWARE = "relay"  # type: ignore[attr-defined]  # else the header Server tells versions
