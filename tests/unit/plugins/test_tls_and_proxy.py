"""The way to a destination: a private authority, a certificate of relay's own, a proxy.

Looked at as well: plugins whose settings are plain ConnectorSettings.
"""

import asyncio
import base64
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from relay.api import Alert, Retry
from relay.config.redaction import Redaction
from relay.testing import make_message
from relay_plugins.alerts import Slack, Webhook
from relay_plugins.heap import Heap
from relay_plugins.http import Http
from tests.certificates import Authority

BODY = b'{"event_type":"x","id":"1"}'


class Proxy:
    """A tiny HTTP proxy: CONNECT, and plain requests to one destination; it may want a password."""

    def __init__(self, password: str = "") -> None:
        self.asked: list[str] = []
        """The request lines that came."""
        self._wanted = f"Basic {base64.b64encode(f'me:{password}'.encode()).decode()}" if password else ""

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.place = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line = head.partition("\r\n")[0]
        self.asked.append(line)
        if self._wanted and f"Proxy-Authorization: {self._wanted}" not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        method, target, _ = line.split()
        place = target if method == "CONNECT" else target.removeprefix("http://").partition("/")[0]
        there, back = await asyncio.open_connection(*place.rsplit(":", 1))
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            back.write(head.encode())
        await asyncio.gather(_copy(reader, back), _copy(there, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(1 << 16):
            writer.write(piece)
    except ConnectionError:
        pass
    writer.close()


class Secure:
    """A destination that speaks TLS, and remembers what it was sent and who sent it."""

    def __init__(self, authority: Authority, clients: Authority | None = None) -> None:
        self.bodies: list[bytes] = []
        self.clients: list[str] = []
        self.headers: set[str] = set()
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(authority.certificate, authority.key)
        if clients:
            self._context.load_verify_locations(clients.ca)
            self._context.verify_mode = ssl.CERT_REQUIRED

    async def __aenter__(self) -> "Secure":
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._context).start()
        self.place = f"127.0.0.1:{self._runner.addresses[0][1]}"
        self.url = f"https://{self.place}/in?key=1"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        self.bodies.append(await request.read())
        self.headers |= {name.lower() for name in request.headers}
        assert request.transport is not None
        shown = request.transport.get_extra_info("peercert") or {}
        self.clients.append(str(shown.get("serialNumber", "")))
        return web.Response()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    (tmp_path / "server").mkdir()
    made = Authority(tmp_path / "server")
    made.issue()
    return made


@pytest.fixture
def clients(tmp_path: Path) -> Authority:
    (tmp_path / "clients").mkdir()
    made = Authority(tmp_path / "clients")
    made.issue()
    return made


async def test_a_destination_with_a_private_authority_is_reached_by_ca(
    connect: Any, make_batch: Any, make_event: Any, authority: Authority, clients: Authority
) -> None:
    async with Secure(authority) as server:
        for wrong in ({}, {"ca": str(clients.ca)}):
            with pytest.raises(Retry, match="TLS: "):
                await connect(Http, url=server.url, **wrong).deliver(make_batch(1))
            with pytest.raises(Retry, match="TLS: "):
                await connect(Http, url=server.url, **wrong).probe()
        for kind, place in ((Http, {"url": server.url}), (Heap, {"endpoint": server.url})):
            good = connect(kind, **place, ca=str(authority.ca))
            assert (
                await good.probe()
                == f"{server.place} takes connections, with a good certificate; credentials are not tested"
            )
            await good.deliver(make_batch(make_event(BODY)))
    assert server.bodies == [b'{"events":[' + BODY + b"]}"] * 2


async def test_a_certificate_is_shown_and_a_renewed_one_after_a_reload(
    connect: Any, make_batch: Any, authority: Authority, clients: Authority
) -> None:
    files = {"certificate": str(clients.certificate), "key": str(clients.key)}
    async with Secure(authority, clients) as server:
        with pytest.raises(Retry):
            await connect(Http, url=server.url, ca=str(authority.ca)).deliver(make_batch(1))
        before = connect(Http, url=server.url, ca=str(authority.ca), **files)
        await before.deliver(make_batch(1))
        clients.issue()
        after = connect(Http, url=server.url, ca=str(authority.ca), **files)
        await after.deliver(make_batch(1))
    assert len(set(server.clients)) == 2
    assert before.settings != after.settings, "a reload makes the connector anew"


@pytest.mark.parametrize("password", ["", "s3cret-w0rd"])
async def test_requests_go_through_a_proxy_with_tls_and_without(
    connect: Any, make_batch: Any, peer: Any, authority: Authority, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Secure(authority) as server, Proxy(password) as proxy:
        monkeypatch.setenv("PROXY", f"http://me:{password}@{proxy.place}")
        way: dict[str, Any] = {"proxy": {"env": "PROXY"} if password else f"http://{proxy.place}"}
        secure = connect(Http, url=server.url, ca=str(authority.ca), **way)
        for _ in range(2):
            await secure.deliver(make_batch(1))
        await connect(Http, url=peer.url, **way).deliver(make_batch(1))
        assert await secure.probe() == f"the proxy {proxy.place} takes connections; credentials are not tested"
        assert "s3cret" not in f"{secure.settings!r}{secure.settings.model_dump_json()}"
    assert proxy.asked == [f"CONNECT {server.place} HTTP/1.1", f"POST {peer.url} HTTP/1.1"]
    assert (len(server.bodies), len(peer.bodies)) == (2, 1)
    assert server.headers.isdisjoint({"proxy-authorization"})


async def test_what_is_wrong_with_a_proxy_is_told_without_its_password(
    connect: Any, make_batch: Any, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Secure(authority) as server, Proxy("right-w0rd") as proxy:
        monkeypatch.setenv("PROXY", f"http://me:wrong-w0rd@{proxy.place}")
        refused = connect(Http, url=server.url, ca=str(authority.ca), proxy={"env": "PROXY"})
        with pytest.raises(Retry) as told:
            await refused.deliver(make_batch(1))
    assert told.value.reason.startswith(f"{server.place}: the proxy does not connect to it: HTTP 407 ")
    assert Redaction(refused.settings).clean("wrong-w0rd") == "..."
    gone = connect(Http, url=server.url, ca=str(authority.ca), proxy={"env": "PROXY"})
    with pytest.raises(Retry) as told:
        await gone.deliver(make_batch(1))
    assert told.value.reason == f"the proxy {proxy.place}: Connection refused"


async def test_the_environment_counts_only_where_an_admin_says_so(
    connect: Any, make_batch: Any, peer: Any, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Secure(authority) as server, Proxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.place}")
        monkeypatch.setenv("HTTP_PROXY", proxy.place)
        await connect(Http, url=peer.url).deliver(make_batch(1))
        assert proxy.asked == []
        await connect(Http, url=peer.url, proxy="environment").deliver(make_batch(1))
        await connect(Http, url=server.url, ca=str(authority.ca), proxy="environment").deliver(make_batch(1))
        assert [line.split()[0] for line in proxy.asked] == ["POST", "CONNECT"]
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        await connect(Http, url=peer.url, proxy="environment").deliver(make_batch(1))
        assert len(proxy.asked) == 2
        monkeypatch.delenv("NO_PROXY")
        monkeypatch.setenv("HTTP_PROXY", "socks5://me:s3cret@127.0.0.1:1")
        with pytest.raises(Retry, match=r"the proxy that the environment names is no http:// URL$|OSError"):
            await connect(Http, url=peer.url, proxy="environment").deliver(make_batch(1))
    assert len(peer.bodies) == 3


async def posted(kind: type[Alert], **settings: Any) -> None:
    alert = kind("ops", kind.Settings.model_validate({"type": kind.type, **settings}))
    try:
        await alert.send(make_message())
    finally:
        await alert.release()


@pytest.mark.parametrize("kind", [Webhook, Slack])
async def test_an_alert_goes_the_way_of_connectors(kind: type[Alert], authority: Authority, clients: Authority) -> None:
    files = {"certificate": str(clients.certificate), "key": str(clients.key)}
    async with Secure(authority, clients) as server, Proxy() as proxy:
        with pytest.raises(Retry, match="TLS: "):
            await posted(kind, url=server.url, **files)
        with pytest.raises(Retry):
            await posted(kind, url=server.url, ca=str(authority.ca))
        await posted(kind, url=server.url, ca=str(authority.ca), proxy=f"http://{proxy.place}", **files)
    assert (len(server.bodies), proxy.asked) == (1, [f"CONNECT {server.place} HTTP/1.1"])
    for wrong in ({"certificate": files["certificate"]}, {"ca": files["key"]}):
        with pytest.raises(ValidationError):
            kind.Settings.model_validate({"type": kind.type, "url": server.url, **wrong})
    clients.issue(days=-1)
    given: Any = kind.Settings.model_validate({"type": kind.type, "url": {"env": "URL"}, **files})
    assert [about for about, _ in given.warnings()] == ["certificate"]


def swapped(clients: Authority) -> dict[str, str]:
    return {"certificate": str(clients.key), "key": str(clients.key)}


def of_another(clients: Authority) -> dict[str, str]:
    old = clients.certificate.read_bytes()
    clients.issue()
    clients.certificate.write_bytes(old)
    return {"certificate": str(clients.certificate), "key": str(clients.key)}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda clients: {"ca": str(clients.key)}, "ca: holds no certificates in PEM form"),
        (lambda clients: {"certificate": str(clients.certificate)}, "key is missing: certificate and key go together"),
        (lambda clients: {"key": str(clients.key)}, "certificate is missing: certificate and key go together"),
        (swapped, "certificate: holds no certificate in PEM form"),
        (of_another, "key: does not belong to the certificate"),
        (lambda clients: {"ca": "ca.pem"}, "expected the absolute path of a PEM file"),
        (
            lambda clients: {"proxy": "proxy:3128"},
            'expected a URL such as "http://proxy.example:3128", or "environment"',
        ),
        (lambda clients: {"proxy": "socks5://proxy:1080"}, "expected a URL such as"),
        (lambda clients: {"proxy": "http://...:3128"}, "expected a URL such as"),
        (
            lambda clients: {"proxy": "http://me:s3cret@proxy:3128"},
            "a URL with a password is a secret: write a reference",
        ),
    ],
)
def test_what_cannot_be_used_is_a_mistake(
    connect: Any, clients: Authority, given: Callable[[Authority], dict[str, Any]], said: str
) -> None:
    with pytest.raises(ValidationError) as told:
        connect(Http, url="https://a.example/", **given(clients))
    assert said in str(told.value.errors(include_input=False, include_url=False))
    assert "s3cret" not in str(told.value.errors(include_input=False, include_url=False))
