"""[ingest] tls: the certificate that relay shows to senders, and whose certificates it wants to see."""

import os
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator

from relay.api import Secret, Settings
from relay.words import moment

SOON_S: Final = 14 * 86400.0
SOON_SHARE: Final = 1 / 6
"""A certificate ends soon if less than this part of its life is left, and less than `SOON_S`."""


def _reference(value: object) -> object:
    """The path of a PEM file is short for a reference to it."""
    if isinstance(value, str) and not Path(value).is_absolute():
        raise ValueError('expected the absolute path of a PEM file, or { credential = "name" }')
    return {"file": value} if isinstance(value, str) else value


Pem = Annotated[Secret, BeforeValidator(_reference, json_schema_input_type=str | Secret)]
"""A PEM file: its path, or a reference as to a secret. Read when the configuration is loaded."""


class TlsSettings(Settings):
    """[ingest] tls: HTTPS on the TCP listeners."""

    certificate: Pem
    """The certificate, followed by the intermediate ones."""
    key: Pem
    """Its private key, without a passphrase."""
    client_ca: Pem | None = None
    """Senders need a certificate from one of these authorities; None: they need none."""
    client_certificates: Literal["required", "optional"] = "required"
    """With `client_ca`: whether a sender may come without a certificate. One that it shows has to be good."""

    def reread(self) -> "TlsSettings":
        """The same settings with what the files hold now. Raises TlsError if one cannot be read."""
        fresh = {name: Secret(old.how, old.name) for name, old in self.references()}
        for name, secret in fresh.items():
            if secret.problem is not None:
                raise TlsError(name, secret.problem)
        return self.model_copy(update=fresh)

    def references(self) -> list[tuple[str, Secret]]:
        """What is read from files, by the name of the setting."""
        return [(name, value) for name, value in vars(self).items() if isinstance(value, Secret)]


class TlsError(ValueError):
    """TLS cannot be served with these settings; `key` is the setting that is to blame."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"ingest.tls.{key}: {reason}")
        self.key = key
        self.reason = reason


def server_context(settings: TlsSettings) -> ssl.SSLContext:
    """What a listener needs to serve TLS. Raises TlsError."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    _load_chain(context, settings.certificate.reveal(), settings.key.reveal())
    if settings.client_ca is not None:
        _trust(context, settings.client_ca.reveal(), "client_ca")
        required = settings.client_certificates == "required"
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    return context


def worry(settings: TlsSettings) -> str | None:
    """Say why senders refuse the certificate, or will soon; None if all is well. Raises TlsError."""
    try:
        shown = _shown(settings.certificate.reveal(), settings.key.reveal())
    except ssl.SSLCertVerificationError as error:
        return f"senders refuse this certificate: {error.verify_message}"
    begins, ends = (ssl.cert_time_to_seconds(str(shown[name])) for name in ("notBefore", "notAfter"))
    left = ends - time.time()
    if left >= min(SOON_S, (ends - begins) * SOON_SHARE):
        return None
    return f"this certificate ends in {left / 3600:.0f} hours, at {moment(ends)}"


def _load_chain(context: ssl.SSLContext, certificate: str, key: str) -> None:
    for name, text, kind in (("certificate", certificate, "CERTIFICATE"), ("key", key, "PRIVATE KEY")):
        if f"{kind}-----" not in text:
            raise TlsError(name, f"holds no {kind.lower()} in PEM form")
    try:
        with _as_file(certificate) as chain_file, _as_file(key) as key_file:
            context.load_cert_chain(chain_file, key_file, password=_no_passphrase)
    except OSError as error:  # an SSLError is one
        reason = getattr(error, "reason", None)
        if reason == "KEY_VALUES_MISMATCH":
            raise TlsError("key", "does not belong to the certificate") from None
        raise TlsError("certificate", f"cannot be used with its key: {reason or error}") from None


def _no_passphrase() -> str:
    raise TlsError("key", "is protected by a passphrase, which nobody is there to type: store it without one")


def _trust(context: ssl.SSLContext, pem: str, name: str) -> None:
    try:
        context.load_verify_locations(cadata=pem.encode("ascii", "ignore").decode())  # base64 amid comments
    except (ssl.SSLError, ValueError) as error:
        raise TlsError(name, f"holds no certificates in PEM form: {error}") from None


@contextmanager
def _as_file(text: str) -> Iterator[str]:
    """A path at which OpenSSL finds what was read already, be it a file or not, and nobody else does."""
    descriptor = os.memfd_create("pem")
    try:
        os.write(descriptor, text.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _shown(certificate: str, key: str) -> "dict[str, object]":
    """What a client reads in the certificate, by a handshake within this process: only a client may look into one.

    Raises TlsError, and SSLCertVerificationError if no client would take it.
    """
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _load_chain(server, certificate, key)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # whoever signed it
    _trust(client, certificate, "certificate")
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    sender, listener = client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True)
    for side in (sender, listener, sender):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return dict(sender.getpeercert() or {})
