"""PEM files: certificates and keys that TLS takes, and how long certificates are good."""

import os
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, NamedTuple

from pydantic import BeforeValidator

from relay.api.secret import Secret

SOON_S: Final = 14 * 86400.0
SOON_SHARE: Final = 1 / 6
"""A certificate ends soon if less than this part of its life is left, and less than `SOON_S`."""
BEGIN: Final = "-----BEGIN CERTIFICATE-----"
END: Final = "-----END CERTIFICATE-----"
VERSION: Final = 0xA0
SHORT_YEAR: Final = 0x17
"""Tags of DER: the version of a certificate, and a time whose year has two digits."""


def _make_reference(value: object) -> object:
    """Turn the path of a PEM file into a reference. Raises ValueError for a relative path."""
    if isinstance(value, str) and not Path(value).is_absolute():
        raise ValueError('expected the absolute path of a PEM file, or { credential = "name" }')
    return {"file": value} if isinstance(value, str) else value


Pem = Annotated[Secret, BeforeValidator(_make_reference, json_schema_input_type=str | Secret)]
"""A PEM file: its path, or a reference as to a secret. Read when the configuration is loaded."""


class PemError(ValueError):
    """A PEM file cannot be used; `key` is the setting that names it."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key = key
        self.reason = reason


class Validity(NamedTuple):
    """When a certificate is good, in Unix seconds."""

    begins: float
    ends: float

    def __str__(self) -> str:
        begins, ends = (f"{datetime.fromtimestamp(one, UTC):%Y-%m-%dT%H:%M:%SZ}" for one in self)
        return f"from {begins} to {ends}"

    def is_good(self, now: float) -> bool:
        """Return whether the certificate is good at `now`, in Unix seconds."""
        return self.begins <= now <= self.ends

    def is_short(self, now: float) -> bool:
        """Return whether the certificate has ended, or ends soon."""
        return self.ends - now < min(SOON_S, (self.ends - self.begins) * SOON_SHARE)

    def warning(self) -> str | None:
        """Return a warning for the admin; None while the certificate is good for long enough."""
        now = time.time()
        if not self.is_good(now):
            return f"it is good only {self}: it is refused"
        return f"it ends in {(self.ends - now) / 3600:.0f} hours; it is good {self}" if self.is_short(now) else None


def validity(pem: str) -> Validity:
    """Return when the first certificate of a PEM file is good. Raises ValueError."""
    first = pem[pem.index(BEGIN) : pem.index(END) + len(END)]
    try:
        ((_, certificate),) = _split_values(ssl.PEM_cert_to_DER_cert(first))
        fields = [*_split_values(_split_values(certificate)[0][1])]  # RFC 5280: what is signed comes first
        _, period = fields[4 if fields[0][0] == VERSION else 3]
        begins, ends = (
            datetime.strptime(text.decode(), "%y%m%d%H%M%SZ" if tag == SHORT_YEAR else "%Y%m%d%H%M%SZ")
            .replace(tzinfo=UTC)
            .timestamp()
            for tag, text in _split_values(period)
        )
    except IndexError as error:
        raise ValueError("it is no certificate") from error
    return Validity(begins, ends)


def _split_values(der: bytes) -> list[tuple[int, bytes]]:
    """Split DER into its consecutive values, each with its tag. Raises IndexError."""
    found, at = [], 0
    while at < len(der):
        tag, size, at = der[at], der[at + 1], at + 2
        if size & 0x80:
            size, at = int.from_bytes(der[at : at + size - 0x80], "big"), at + size - 0x80
        found.append((tag, der[at : at + size]))
        at += size
    return found


def load_chain(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Load a certificate and its key into a context. Raises PemError about "certificate" or "key"."""
    for name, text, kind in (("certificate", certificate, "CERTIFICATE"), ("key", key, "PRIVATE KEY")):
        if f"{kind}-----" not in text:
            raise PemError(name, f"holds no {kind.lower()} in PEM form")
    try:
        with _hold_as_file(certificate) as chain_file, _hold_as_file(key) as key_file:
            context.load_cert_chain(chain_file, key_file, password=_refuse_passphrase)
    except OSError as error:  # an SSLError is one
        reason = getattr(error, "reason", None)
        if reason == "KEY_VALUES_MISMATCH":
            raise PemError("key", "does not belong to the certificate") from None
        raise PemError("certificate", f"cannot be used with its key: {reason or error}") from None


def trust(context: ssl.SSLContext, pem: str, name: str) -> None:
    """Let a context trust the authorities of a PEM file. Raises PemError about `name`."""
    try:
        context.load_verify_locations(cadata=pem.encode("ascii", "ignore").decode())  # base64 amid comments
    except (ssl.SSLError, ValueError) as error:
        raise PemError(name, f"holds no certificates in PEM form: {error}") from None


def _refuse_passphrase() -> str:
    raise PemError("key", "is protected by a passphrase, which nobody is there to type: store it without one")


@contextmanager
def _hold_as_file(text: str) -> Iterator[str]:
    """Hold a text in memory at a path that OpenSSL can read, and no other process."""
    descriptor = os.memfd_create("pem")
    try:
        os.write(descriptor, text.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
