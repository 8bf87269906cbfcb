"""The settings `tls` of [ingest] and [console]: the certificate, and the authorities of certificates of senders."""

import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Literal

from relay.api import Secret, Settings
from relay.api.internal import Pem, PemError, Validity, load_chain, trust, validity


class TlsSettings(Settings):
    """HTTPS on the TCP addresses of `listen`, with TLS 1.2 and later.

    Each file is the path of a PEM file, or a reference such as `{ credential = "tls-key" }`. relay reads the files
    every minute: new connections get a renewed certificate. systemd reads a credential at the start only.
    """

    certificate: Pem
    """PEM file: the certificate, then the intermediate certificates."""
    key: Pem
    """PEM file: the private key of the certificate, without a passphrase."""
    client_ca: Pem | None = None
    """PEM file of authorities: senders need a certificate of such an authority. Without `client_ca` senders need no
    certificate."""
    client_certificates: Literal["required", "optional"] = "required"
    """Whether senders must have a certificate, with `client_ca`. `"optional"` accepts senders without a certificate,
    and still refuses a wrong certificate."""

    def reread(self) -> "TlsSettings":
        """Return the same settings with the present content of the files. Raises TlsError if one cannot be read."""
        fresh = {name: Secret(old.how, old.name) for name, old in self.list_references()}
        for name, secret in fresh.items():
            if secret.problem is not None:
                raise TlsError(name, secret.problem)
        return self.model_copy(update=fresh)

    def list_references(self) -> list[tuple[str, Secret]]:
        """Return what is read from files, by the name of the setting."""
        return [(name, value) for name, value in vars(self).items() if isinstance(value, Secret)]

    @property
    def files(self) -> str:
        """The files of certificate and key, for whoever has to renew them."""
        return " and ".join(one.name if one.how == "file" else str(one) for one in (self.certificate, self.key))

    @property
    def validity(self) -> Validity:
        """The validity of the certificate. Raises TlsError."""
        with _convert_errors():
            try:
                return validity(self.certificate.reveal())
            except ValueError as error:
                raise PemError("certificate", f"holds no certificate in PEM form: {error}") from None


class TlsError(PemError):
    """Raised when TLS cannot be served with these settings. `key`: the setting to blame."""

    def __str__(self) -> str:
        return f"ingest.tls.{self.key}: {self.reason}"


def make_server_context(settings: TlsSettings) -> ssl.SSLContext:
    """Make the context of a listener with TLS. Raises TlsError."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    with _convert_errors():
        load_chain(context, settings.certificate.reveal(), settings.key.reveal())
        if settings.client_ca is not None:
            trust(context, settings.client_ca.reveal(), "client_ca")
            required = settings.client_certificates == "required"
            context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    return context


def expiry_warning(settings: TlsSettings) -> str | None:
    """Return why senders refuse the certificate, or soon will; None if all is well. Raises TlsError."""
    good, now = settings.validity, time.time()
    with _convert_errors():
        try:
            _shake_hands(settings.certificate.reveal(), settings.key.reveal())
        except ssl.SSLCertVerificationError as error:
            return f"senders refuse this certificate: {error.verify_message}"
    if not good.is_short(now):
        return None
    ends = f"{datetime.fromtimestamp(good.ends, UTC):%Y-%m-%dT%H:%M:%SZ}"
    return f"this certificate ends in {(good.ends - now) / 3600:.0f} hours, at {ends}"


@contextmanager
def _convert_errors() -> Iterator[None]:
    """Raise errors of a file as TlsError."""
    try:
        yield
    except PemError as error:
        raise TlsError(error.key, error.reason) from None


def _shake_hands(certificate: str, key: str) -> None:
    """Check the certificate as a client does, by a handshake within this process.

    Raises PemError, and SSLCertVerificationError if no client would accept it.
    """
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    load_chain(server, certificate, key)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # whoever signed it
    trust(client, certificate, "certificate")
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    sender, listener = client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True)
    for side in (sender, listener, sender):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
