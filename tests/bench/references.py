"""Servers that relay is compared with: what HTTP alone costs on this machine, in aiohttp (floor) and in C (ceiling)."""

import asyncio
import shutil
import socket
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

from daemon import process_cpu, tree, until
from worker import working

NGINX: Final = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
NO_NGINX: Final = "nginx is not installed: the ceiling is not measured"
NGINX_CONF: Final = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr crit;
events {{ worker_connections 256; }}
http {{
    access_log off; keepalive_requests 100000000; client_max_body_size 8m; client_body_buffer_size 1m;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:{port}; location / {{ return 204; }} }}
}}
"""
Cpu = Callable[[], Awaitable[float]]
"""Returns the CPU seconds that a server has used so far."""


@asynccontextmanager
async def floor(folder: Path, port: int) -> AsyncIterator[Cpu]:
    """Run a bare aiohttp server."""
    async with working("floor.py", str(port)) as server:

        async def cpu() -> float:
            return float(await server.ask(do="cpu"))

        yield cpu


@asynccontextmanager
async def ceiling(folder: Path, port: int) -> AsyncIterator[Cpu]:
    """Run nginx with one worker, which answers 204."""
    assert NGINX is not None, NO_NGINX
    conf = folder / "nginx.conf"
    conf.write_text(NGINX_CONF.format(folder=folder, port=port))
    process = await asyncio.create_subprocess_exec(NGINX, "-p", folder, "-c", conf, stdout=DEVNULL)

    async def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    async def cpu() -> float:
        return sum(map(process_cpu, tree(process.pid)))

    try:
        await until(listens)
        yield cpu
    finally:
        process.terminate()
        await process.wait()


REFERENCES: Final[dict[str, Callable[[Path, int], AbstractAsyncContextManager[Cpu]]]] = {
    "floor": floor,
    "ceiling": ceiling,
}
