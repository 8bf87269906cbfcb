"""HTTP listeners with limits of time, size and number, and with TLS. The log never repeats what strangers send."""

from aiohttp import web_response

from relay.listen.acceptor import Acceptor
from relay.listen.client_address import describe_client, find_client, find_peer
from relay.listen.error import ListenError, convert_errors
from relay.listen.limits import ListenerLimits, raise_descriptor_limit
from relay.listen.listeners import bind, close, describe_sockets
from relay.listen.open_connections import AppRunner, Server
from relay.listen.tls import Certificates

__all__ = [
    "SERVER",
    "Acceptor",
    "AppRunner",
    "Certificates",
    "ListenError",
    "ListenerLimits",
    "Server",
    "bind",
    "close",
    "convert_errors",
    "describe_client",
    "describe_sockets",
    "find_client",
    "find_peer",
    "raise_descriptor_limit",
]

SERVER = "relay"
"""The header Server of all answers. aiohttp's own tells versions."""
web_response.SERVER_SOFTWARE = SERVER  # type: ignore[attr-defined]
