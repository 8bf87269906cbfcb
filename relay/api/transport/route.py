"""The way to a destination over HTTP: whose certificates count, which one is shown, and through which proxy."""

import ssl
from collections.abc import Iterator
from typing import Annotated, Final

from pydantic import PlainSerializer, PlainValidator
from yarl import URL

from relay.api.alert import AlertSettings
from relay.api.connector import ConnectorSettings
from relay.api.secret import SECRET_FORMS, Secret
from relay.api.settings import Contradiction, Settings
from relay.api.transport.pem import Pem, PemError, load_chain, trust, validity

ENVIRONMENT: Final = "environment"
EXPECTED: Final = 'expected a URL such as "http://proxy.example:3128", or "environment"'


class ProxySecret(Secret):
    """The URL of a proxy, with a password in it."""

    def _find_flaw(self) -> str | None:
        return None if is_proxy(self._value) else f"{self} holds no URL such as http://user:password@host:3128"


def is_proxy(text: str) -> bool:
    """Return whether a text is the URL of an HTTP proxy."""
    try:
        url = URL(text)
    except ValueError:
        return False
    return url.scheme == "http" and bool((url.host or "").strip(".")) and text.isprintable() and " " not in text


def _check_proxy(value: object) -> str | Secret:
    if isinstance(value, dict | Secret):
        return ProxySecret.parse(value)
    text = value if isinstance(value, str) else "?"
    if text not in ("", ENVIRONMENT):
        if not is_proxy(text):
            raise ValueError(EXPECTED)
        if URL(text).user or URL(text).password:
            raise ValueError(f"a URL with a password is a secret: write a reference to all of it, {SECRET_FORMS}")
    return text


def _write_proxy(proxy: str | Secret) -> str | dict[str, str]:
    return {proxy.how: proxy.name} if isinstance(proxy, Secret) else proxy


Proxy = Annotated[
    str | Secret,
    PlainValidator(_check_proxy, json_schema_input_type=str | Secret),
    PlainSerializer(_write_proxy, when_used="json"),
]
"""The URL of an HTTP proxy, a reference to one with a password in it, "environment", or "" for none."""


class CertificateSettings(Settings):
    """Whose certificates count, and which certificate relay shows. A subclass that overrides `contradictions` or
    `warnings` also yields those of this class."""

    ca: Pem | None = None
    """PEM file of authorities: the destination must show a certificate from one of them. Without `ca` the authorities
    of this machine count.

    The files of `ca`, `certificate` and `key` may also be references, as to a secret. relay reads them at the start and
    at each reload.
    """
    certificate: Pem | None = None
    """PEM file: the certificate that relay shows to the destination, then the intermediate certificates. It needs
    `key`."""
    key: Pem | None = None
    """PEM file: the private key of `certificate`, without a passphrase."""

    def contradictions(self) -> Iterator[Contradiction]:
        """Yield PEM files that cannot be used."""
        if (self.certificate is None) is not (self.key is None):
            lacking = "key" if self.key is None else "certificate"
            yield "certificate key", f"{lacking} is missing: certificate and key go together"
            return
        own = [one for one in (self.ca, self.certificate, self.key) if one is not None]
        if own and not any(one.problem for one in own):
            try:
                self.make_tls_context()
            except PemError as error:
                yield error.key, str(error)

    def warnings(self) -> Iterator[Contradiction]:
        """Yield a certificate that is not good, or not for long."""
        if self.certificate is not None and not self.certificate.problem:
            good = validity(self.certificate.reveal())
            if reason := good.warning():
                yield "certificate", reason

    def make_tls_context(self) -> ssl.SSLContext:
        """Make the context for connections by TLS. It reads the authorities of this machine, and blocks. Raises
        ValueError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.ca is None:
            context.load_default_certs()
        else:
            trust(context, self.ca.reveal(), "ca")
        if self.certificate is not None and self.key is not None:
            load_chain(context, self.certificate.reveal(), self.key.reveal())
        return context


class WaySettings(CertificateSettings):
    """Settings of the way to a destination over HTTP."""

    proxy: Proxy = ""
    """URL of an HTTP proxy, such as `"http://proxy.example:3128"`. `"environment"`: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY
    and NO_PROXY name the proxy. Write a reference if the URL has a password: `{ credential = "proxy" }`.

    relay reaches `https` destinations by CONNECT, and TLS ends at the destination. Without `proxy` relay ignores the
    proxies of the environment.
    """


class HttpConnectorSettings(WaySettings, ConnectorSettings):
    """Settings of a connector that sends by `self.http` or `self.post`.

    A subclass that overrides `contradictions` or `warnings` also yields those of this class.
    """


class HttpAlertSettings(WaySettings, AlertSettings):
    """Settings of an alert that sends by `self.http` or `self.post`.

    A subclass that overrides `contradictions` or `warnings` also yields those of this class.
    """


def make_context(settings: WaySettings) -> ssl.SSLContext | None:
    """Make the TLS context for a destination; None if this machine's authorities are enough. Raises PemError."""
    if settings.ca is None and settings.certificate is None:
        return None
    context = settings.make_tls_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
