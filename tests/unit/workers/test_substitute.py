"""Who answers for workers that are away."""

import asyncio
import ssl
from pathlib import Path
from socket import create_server, socket
from types import SimpleNamespace
from typing import Any, cast

from relay.config.tls import TlsSettings
from relay.workers.substitute import Substitute
from tests.certificates import Authority


class _Away:
    """A worker that has died long ago."""

    def __init__(self) -> None:
        self.silence, self.ready = 3600.0, asyncio.Event()
        self.worker = SimpleNamespace(number=3)


async def _serial(listening: socket, authority: Authority) -> tuple[int, str]:
    """What a sender is answered, and the serial number of the certificate that it sees."""
    port, context = listening.getsockname()[1], ssl.create_default_context(cafile=str(authority.ca))
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n")
    status = int((await reader.readline()).split()[1])
    certificate = writer.get_extra_info("peercert")
    writer.transport.abort()
    return status, certificate["serialNumber"]


async def test_the_substitute_serves_a_renewed_certificate_and_no_expired_one(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue()
    files = {"certificate": str(authority.certificate), "key": str(authority.key)}
    settings = [TlsSettings.model_validate(files)]
    worker = _Away()
    with create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        substitute = Substitute([cast("Any", worker)], [[listening]], lambda: settings[-1])
        running = asyncio.get_running_loop().create_task(substitute.run(), name="substitute")
        seen = [await _serial(listening, authority)]
        for days in (-1, 365):
            worker.silence = 0
            await substitute.check()
            authority.issue(days=days)
            settings.append(settings[-1].reread())
            worker.silence = 3600.0
            await substitute.check()
            seen.append(await _serial(listening, authority))
        running.cancel()
        await asyncio.wait([running])
    (first, second, third), statuses = [serial for _, serial in seen], {status for status, _ in seen}
    assert statuses == {503}
    assert first == second != third
