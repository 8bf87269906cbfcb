"""The relay that runs: whether it answers, and whether its certificates are good."""

import time
from collections.abc import Iterator

import msgspec

from relay.admin import CertificateStatus, Status
from relay.admin.diagnosis import kind_of_certificate, said_of_certificate
from relay.cli.client import running
from relay.cli.doctor.finding import Finding, Installation, Level
from relay.config import TlsError


def answers(it: Installation) -> Iterator[Finding]:
    """Ask the relay that runs for the certificates in service; look at the files where none runs."""
    client = running(it.state)
    seen = msgspec.json.decode(client.read("GET", "/status"), type=Status) if client else None
    for one in seen.certificates if seen else _configured(it):
        kind = kind_of_certificate(one, now := time.time())
        level: Level = "ok" if kind is None else "warning" if kind == "certificate_expiring" else "problem"
        name, _, said = said_of_certificate(one, now).partition(": ")
        yield Finding(level, name, said)


def _configured(it: Installation) -> list[CertificateStatus]:
    tls = it.config.ingest.tls
    if tls is None or tls.certificate.problem:
        return []
    try:
        good = tls.validity
    except TlsError:  # the configuration says so
        return []
    return [CertificateStatus(certificate="ingest", begins=good.begins, ends=good.ends)]
