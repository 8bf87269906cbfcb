"""TLS of the listeners, as senders meet it: who is let in, and which certificate they see after a renewal."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from structlog.testing import capture_logs

from relay.config.address import TcpAddress
from relay.config.model import IngestSettings
from relay.config.tls import TlsError, TlsSettings
from relay.ingest.server import Ingest
from relay.journal.journal import Journal
from relay.listen import tls
from relay.state.database import StateDatabase
from relay.state.state_folder import FolderInbox
from relay.store.log import JournalLimits
from relay.testing import make_event
from relay_plugins.currents import Currents
from tests.certificates import Authority


class Relay:
    """A listener with TLS, and its senders."""

    def __init__(self, folder: Path, **more: str) -> None:
        self.authority = Authority(folder)
        self.authority.issue()
        files = {"certificate": str(self.authority.certificate), "key": str(self.authority.key)}
        self.tls = TlsSettings.model_validate(files | more)
        listening = IngestSettings(listen=(TcpAddress("127.0.0.1", 0),), tls=self.tls)
        source = Currents("braze", Currents.Settings.model_validate({"type": "currents", "path": "/in"}))
        self.journal, self.state = (
            Journal(folder / "journal", JournalLimits(1 << 30, 3600), 1 << 20),
            StateDatabase(folder),
        )
        self.ingest = Ingest([source], listening, FolderInbox(self.journal, self.state))

    async def __aenter__(self) -> "Relay":
        (self.url,) = await self.ingest.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.ingest.stop()
        await self.journal.close()
        self.state.close()

    def trusting(self, certificate: "trustme.LeafCert | None" = None) -> ssl.SSLContext:
        """What a sender trusts, and what it shows."""
        context = ssl.create_default_context(cafile=str(self.authority.ca))
        if certificate is not None:
            certificate.configure_cert(context)
        return context

    async def post(self, context: ssl.SSLContext | None = None) -> int:
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.url}/in", data=make_event(), ssl=context or self.trusting()) as answer,
        ):
            return answer.status

    async def serial(self, context: ssl.SSLContext | None = None) -> str:
        """The serial number of the certificate that a new sender sees."""
        host, port = self.url.removeprefix("https://").rsplit(":", 1)
        _, writer = await asyncio.open_connection(host, int(port), ssl=context or self.trusting())
        found = writer.get_extra_info("peercert")["serialNumber"]
        writer.close()
        await writer.wait_closed()
        return str(found)


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[Relay]:
    async with Relay(tmp_path) as relay:
        yield relay


async def test_events_come_by_https_only(relay: Relay) -> None:
    assert relay.url.startswith("https://127.0.0.1:")
    assert await relay.post() == 202
    with capture_logs() as logs, pytest.raises(aiohttp.ClientConnectionError):
        async with aiohttp.request("POST", relay.url.replace("https://", "http://") + "/in", data=make_event()):
            pass
    (line,) = logs
    assert (line["event"], line["reason"]) == ("TLS handshake failed", "HTTP_REQUEST")
    assert relay.journal.head == 1


async def test_a_sender_that_does_not_trust_the_certificate_is_told_of(relay: Relay) -> None:
    host, port = relay.url.removeprefix("https://").split(":")

    def shake_hands() -> None:
        with socket.create_connection((host, int(port))) as connection:
            ssl.create_default_context().wrap_socket(connection, server_hostname=host)

    async def told() -> list[Any]:
        return [line["reason"] for line in logs]

    with capture_logs() as logs:
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.to_thread(shake_hands)
        await until(told, ["TLSV1_ALERT_UNKNOWN_CA"])


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
async def test_old_versions_are_not_spoken(relay: Relay, version: str) -> None:
    old = relay.trusting()
    old.minimum_version = old.maximum_version = getattr(ssl.TLSVersion, version)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(aiohttp.ClientConnectionError):
        await relay.post(old)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("wanted", ["required", "optional"])
async def test_senders_show_certificates_of_the_right_authority(
    tmp_path: Path, wanted: str, version: ssl.TLSVersion
) -> None:
    (tmp_path / "clients").mkdir()
    clients = trustme.CA()
    clients.cert_pem.write_to_path(str(tmp_path / "clients.pem"))
    more = {"client_ca": str(tmp_path / "clients.pem"), "client_certificates": wanted}
    async with Relay(tmp_path, **more) as relay:
        good, bad = clients.issue_cert("braze.example"), trustme.CA().issue_cert("braze.example")
        for certificate, passes in ((good, True), (bad, False), (None, wanted == "optional")):
            context = relay.trusting(certificate)
            context.minimum_version = context.maximum_version = version
            if passes:
                assert await relay.post(context) == 202
            else:
                with pytest.raises(aiohttp.ClientConnectionError):
                    await relay.post(context)


@pytest.mark.parametrize("kind", list(trustme.KeyType))
async def test_a_renewed_certificate_is_served_and_connections_stay(relay: Relay, kind: trustme.KeyType) -> None:
    before, connections = await relay.serial(), 0

    async def connected(*_: object) -> None:
        nonlocal connections
        connections += 1

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(connected)
    connector = aiohttp.TCPConnector(ssl=relay.trusting())
    async with aiohttp.ClientSession(connector=connector, trace_configs=[trace]) as session:

        async def post() -> int:
            async with session.post(f"{relay.url}/in", data=make_event()) as answer:
                return answer.status

        assert await post() == 202
        assert await relay.ingest.reload_tls() is False
        relay.authority.issue(key_type=kind)
        assert await relay.serial() == before
        assert await relay.ingest.reload_tls() is True
        assert await relay.serial() != before
        assert await post() == 202
        assert connections == 1


async def test_a_renewal_that_is_not_complete_changes_nothing(relay: Relay) -> None:
    before, key = await relay.serial(), relay.authority.key.read_bytes()
    relay.authority.issue()
    new_key = relay.authority.key.read_bytes()
    relay.authority.key.write_bytes(key)
    with pytest.raises(TlsError, match=r"ingest\.tls\.key: does not belong to the certificate"):
        await relay.ingest.reload_tls()
    relay.authority.key.unlink()
    with pytest.raises(TlsError, match=r"ingest\.tls\.key: .*cannot be read"):
        await relay.ingest.reload_tls()
    assert await relay.serial() == before
    relay.authority.key.write_bytes(new_key)
    assert await relay.ingest.reload_tls() is True
    assert await relay.serial() != before


async def test_an_expired_certificate_never_replaces_a_good_one(relay: Relay) -> None:
    before = await relay.serial()
    relay.authority.issue(days=-1)
    with (
        capture_logs() as lines,
        pytest.raises(TlsError, match=r"ingest\.tls\.certificate: is good only from .* to .*: senders would refuse it"),
    ):
        await relay.ingest.reload_tls(relay.tls.reread())  # relay reload
    (line,) = lines
    assert (line["log_level"], line["event"]) == ("error", "renewed certificate cannot be used")
    assert line["advice"] == "the one before is served on; renew the files, then relay reload"
    with pytest.raises(TlsError, match="senders would refuse it"):
        await relay.ingest.reload_tls()
    assert await relay.serial() == before
    relay.authority.issue()
    assert await relay.ingest.reload_tls() is True
    assert await relay.serial() != before


async def test_other_settings_are_taken_over(relay: Relay, tmp_path: Path) -> None:
    more = {"client_ca": str(relay.authority.ca)}
    files = {"certificate": str(relay.authority.certificate), "key": str(relay.authority.key)}
    assert await relay.post() == 202
    await relay.ingest.reload_tls(TlsSettings.model_validate(files | more))
    with pytest.raises(aiohttp.ClientConnectionError):
        await relay.post()


async def until(seen: Any, wanted: Any) -> None:
    async with asyncio.timeout(30):
        while await seen() != wanted:
            await asyncio.sleep(0.01)


async def test_changes_are_noticed_and_told_once(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "WATCH_S", 0.01)
    looks = 0
    reload = tls.Certificates.reload

    async def counted(self: tls.Certificates) -> bool:
        nonlocal looks
        looks += 1
        return await reload(self)

    async def looked() -> bool:
        return looks >= 5

    monkeypatch.setattr(tls.Certificates, "reload", counted)
    before = await relay.serial()
    with capture_logs() as logs:
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(relay.ingest.watch_tls(), name="watch")
            await until(looked, True)
            assert logs == []
            relay.authority.key.write_bytes(b"")
            looks = 0
            await until(looked, True)
            relay.authority.issue(days=3)
            while await relay.serial() == before:
                await asyncio.sleep(0.01)
            looks = 0
            await until(looked, True)
            watching.cancel()
    told = [line["event"] for line in logs if line["log_level"] != "warning"]
    assert told == ["renewed certificate cannot be used", "certificate renewed", "certificate needs renewal"]
    assert "it is empty" in logs[0]["reason"]
    assert "in 72 hours" in logs[-1]["reason"]


async def test_a_certificate_that_ends_is_told_before_and_at_once_when_it_has(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "WATCH_S", 0.02)
    relay.authority.issue(days=2 / 86400)
    with capture_logs() as logs:

        def reasons() -> list[str]:
            return [line["reason"] for line in logs if line["event"] == "certificate needs renewal"]

        async with asyncio.TaskGroup() as group:
            watching = group.create_task(relay.ingest.watch_tls(), name="watch")
            async with asyncio.timeout(60):
                while len(reasons()) < 2:
                    await asyncio.sleep(0.02)
                    if reasons():
                        monkeypatch.setattr(tls, "WATCH_S", 60.0)
            watching.cancel()
    soon, over = reasons()
    assert ("ends in 0 hours" in soon, "has expired" in over) == (True, True)
    told = logs[-1]
    assert (told["listener"], str(relay.authority.certificate) in told["files"], "ends" in told) == (
        "ingest",
        True,
        True,
    )


async def test_a_certificate_that_is_bad_may_replace_another_that_is(relay: Relay) -> None:
    relay.authority.issue(days=-1)
    certificates = tls.Certificates(relay.tls.reread())
    ended = certificates.validity.ends
    relay.authority.issue(days=-2)
    assert await certificates.reload() is True
    assert certificates.validity.ends < ended
