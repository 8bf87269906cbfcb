"""nginx and Caddy in front of relay, as systemd/examples has them: TLS on one side, a unix socket on the other."""

import asyncio
import http.client
import os
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from relay.cli.client import require_running
from relay.sandbox.daemon import find_free_port
from relay.status.model import Status
from relay.testing import make_event
from tests.certificates import Authority
from tests.daemon import Daemon

EXAMPLES = Path(__file__).parents[2] / "systemd" / "examples"
SOCKET = "/run/relay/ingest.sock"
CONF = """
[ingest]
listen = "unix:%s"
trusted_proxies = ["unix"]
[source.braze]
type = "currents"
path = "/currents"
[source.mine]
type = "currents"
path = "/mine"
allow = ["127.0.0.9"]
[connector.archive]
type = "file"
path = "out.ndjson"
"""
NGINX = """
daemon off;
pid %(folder)s/nginx.pid;
error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path %(folder)s/body;
    proxy_temp_path %(folder)s/proxy;
    fastcgi_temp_path %(folder)s/fastcgi;
    uwsgi_temp_path %(folder)s/uwsgi;
    scgi_temp_path %(folder)s/scgi;
    %(example)s
}
"""
CADDY = "{\n\tadmin off\n\tauto_https disable_redirects\n\tskip_install_trust\n\tlog {\n\t\tlevel ERROR\n\t}\n}\n"


def nginx(folder: Path, authority: Authority, port: int) -> list[str | Path]:
    """The command that runs nginx by the example."""
    example = (EXAMPLES / "nginx" / "relay.conf").read_text().replace("listen 443", f"listen 127.0.0.1:{port}")
    for name in ("fullchain", "privkey"):
        example = example.replace(f"/etc/letsencrypt/live/relay.example.com/{name}.pem", f"{folder}/{name}.pem")
    path = folder / "nginx.conf"
    path.write_text(NGINX % {"folder": folder, "example": example.replace(SOCKET, f"{folder}/ingest.sock")})
    user = ["-g", "user root;"] if os.geteuid() == 0 else []
    return ["nginx", "-c", path, *user]


def caddy(folder: Path, authority: Authority, port: int) -> list[str | Path]:
    """The command that runs Caddy by the example."""
    example = (EXAMPLES / "caddy" / "Caddyfile").read_text().replace(SOCKET, f"{folder}/ingest.sock")
    tls = f"\ttls {authority.certificate} {authority.key}\n"
    path = folder / "Caddyfile"
    path.write_text(CADDY + example.replace("relay.example.com {\n", f"https://127.0.0.1:{port} {{\n{tls}"))
    return ["caddy", "run", "--adapter", "caddyfile", "--config", path]


@contextmanager
def running(command: list[str | Path], folder: Path) -> Iterator[None]:
    env = os.environ | {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with (
        (folder / "proxy.log").open("wb") as log,
        subprocess.Popen(command, env=env, stderr=log, stdout=log) as process,
    ):
        try:
            yield
        finally:
            process.terminate()


@pytest.mark.parametrize("proxy", [nginx, caddy])
async def test_relay_is_well_behind_a_proxy(daemon: Daemon, proxy: Callable[..., list[str | Path]]) -> None:
    if shutil.which(proxy.__name__) is None and "CI" not in os.environ:
        pytest.skip(f"{proxy.__name__} is not here: apt install {proxy.__name__}")
    folder = daemon.state.parent
    authority, port = Authority(folder), find_free_port()
    authority.issue()
    context = ssl.create_default_context(cafile=authority.ca)
    connections: list[http.client.HTTPSConnection] = []

    def connect(source: str = "127.0.0.1") -> http.client.HTTPSConnection:
        made = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context, source_address=(source, 0))
        connections.append(made)
        return made

    def post(path: str, body: bytes, over: http.client.HTTPSConnection, **headers: str) -> int:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        with suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):  # the answer came before all was sent
            over.request("POST", path, body, given)
        answer = over.getresponse()
        answer.read()
        return answer.status

    def listening() -> bool:
        over = connect()
        try:
            return post("/currents", b"", over) == 200
        except OSError:
            return False

    def seen() -> int:
        told = require_running(daemon.state).read("GET", "/status")
        return msgspec.json.decode(told, type=Status).listeners["ingest"].connections

    def send() -> None:
        event = make_event()
        one, large = b'{"events":[%s]}' % event, b'{"events":[%s]}' % b",".join([event] * (2_000_000 // len(event)))
        for _ in range(5):
            assert post("/currents", one, connect()) == 202
        assert post("/currents", large, connect()) == 202
        assert post("/currents", b" " * (9 << 20), connect()) == 413
        assert post("/mine", one, connect("127.0.0.9")) == 202
        assert post("/mine", one, connect(), X_Forwarded_For="127.0.0.9") == 403
        over = connect()
        assert [post("/currents", one, over) for _ in range(5)] == [202] * 5

    daemon.configure("00-ingest", CONF % (folder / "ingest.sock"))
    await daemon.start()
    with running(proxy(folder, authority, port), folder):
        await daemon.until(listening, bool)
        await asyncio.to_thread(send)
        assert await asyncio.to_thread(seen) >= 1  # they stay open
        assert await daemon.stop() == 0
        assert await asyncio.to_thread(post, "/currents", b"", connect()) == 502
        await daemon.start()
        assert await asyncio.to_thread(post, "/currents", b"", connect()) == 200
    for each in connections:
        each.close()
    assert await daemon.stop() == 0
