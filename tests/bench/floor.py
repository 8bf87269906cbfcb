"""The floor: a bare aiohttp server on the kind of loop that relay uses, which reads each body and answers 202.

Usage: floor.py PORT. Command: {"do": "cpu"}.
"""

import asyncio
import sys
import time
from typing import Any

from aiohttp import web
from worker import Command, serve


async def take(request: web.BaseRequest) -> web.Response:
    """Read the body, and answer."""
    await request.read()
    return web.Response(status=202, body=b'{"accepted":1}', headers={"Content-Type": "application/json"})


async def start() -> Any:
    """Listen on the port."""
    server = web.Server(take, access_log=None)
    await asyncio.get_running_loop().create_server(server, "127.0.0.1", int(sys.argv[1]))

    async def answer(command: Command) -> Any:
        assert command == {"do": "cpu"}
        return time.process_time()

    return answer


if __name__ == "__main__":
    serve(start)
