"""Reads an answer of relay as it comes, for pages that show or pass on more than fits in memory."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from relay.client import ClientError, find_socket
from relay.socket_path import address_of
from relay.words import describe_error

CONNECT_S: Final = 3.0
HELD_BYTES: Final = 4 << 20
"""Bytes of an answer that wait for a slow reader, or twice as many. A longer line ends the answer."""


@asynccontextmanager
async def open_answer(
    state: Path, by: str, method: str, target: str, body: object = None
) -> AsyncIterator[aiohttp.StreamReader]:
    """Ask the relay of a state folder in the name of a user; yield the answer, whose lines come as relay sends them.

    The end of the block ends the answer. Raises ClientError with the reason, also if the answer breaks off.
    """
    headers = {"Relay-By": by, "Content-Type": "application/json"}
    data = None if body is None else msgspec.json.encode(body)
    timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_S)
    try:
        with address_of(find_socket(state)) as address:
            connector = aiohttp.UnixConnector(address)
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=HELD_BYTES) as session,
                session.request(method, f"http://relay{target}", data=data, headers=headers) as answer,
            ):
                if answer.status >= HTTPStatus.BAD_REQUEST:
                    raise ClientError((await answer.json(content_type=None))["detail"])
                yield answer.content
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise ClientError(
            f"relay has gone away: {describe_error(error) if isinstance(error, OSError) else error}"
        ) from None
