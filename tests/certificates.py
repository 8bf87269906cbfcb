"""An authority of the test's own, and its certificates as files."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trustme


class Authority:
    """Signs what a test needs into one folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder, self._ca = folder, trustme.CA()
        self.certificate, self.key, self.ca = folder / "fullchain.pem", folder / "privkey.pem", folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.ca)

    def issue(self, days: float = 365, **options: Any) -> "trustme.LeafCert":
        """A new certificate for 127.0.0.1, in place of the one before."""
        began = datetime.now(UTC) - timedelta(days=365)
        ends = datetime.now(UTC) + timedelta(days=days)
        made = self._ca.issue_cert("127.0.0.1", "localhost", not_before=began, not_after=ends, **options)
        self.key.write_bytes(made.private_key_pem.bytes())
        self.certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        return made

    def table(self, **more: str) -> str:
        """[ingest.tls] of conf.d."""
        lines = [f'certificate = "{self.certificate}"', f'key = {{ file = "{self.key}" }}']
        return "\n".join(["[ingest.tls]", *lines, *(f'{name} = "{value}"' for name, value in more.items())])
