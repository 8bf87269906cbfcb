"""The suite of all connectors for `s3`, against a server that answers as a store does."""

from pathlib import Path
from typing import ClassVar

import pytest

pytest.importorskip("obstore", reason="the connector takes the package currents-relay[s3]")

from relay.api import Secret
from relay.testing import Answer, ConnectorSuite, HttpDestination, SuiteDestination
from relay_plugins.s3 import S3


class TestS3(ConnectorSuite):
    lacks: ClassVar = {
        "answers": "obstore gives no status",
        "redirect": "obstore follows redirects, for which the signature of the request is wrong",
        "rejected": "a store takes or refuses an object as a whole, and never for one of its events",
        "retry_after": "obstore does not give this header",
        "retry_after_date": "obstore does not give this header",
    }

    def destination(self, folder: Path) -> SuiteDestination:
        return HttpDestination(Answer(headers={"ETag": '"1"'}, body=b""))

    def make(self, url: str, token: Secret, folder: Path) -> S3:
        table = {"bucket": "lake", "endpoint": url, "access_key": token, "secret_key": token, "compress": "none"}
        return S3("lake", S3.Settings.model_validate({"type": "s3"} | table), folder=folder)
