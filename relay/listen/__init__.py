"""HTTP listeners: within limits of time, size and number, and without a word of what strangers send in the log."""

from aiohttp import web_response

from relay.listen.acceptor import Acceptor
from relay.listen.error import ListenError, at
from relay.listen.limits import ListenerLimits, raise_descriptor_limit
from relay.listen.server import AppRunner, Server

__all__ = ["Acceptor", "AppRunner", "ListenError", "ListenerLimits", "Server", "at", "raise_descriptor_limit"]

web_response.SERVER_SOFTWARE = "relay"  # type: ignore[attr-defined]  # else the header Server tells versions
