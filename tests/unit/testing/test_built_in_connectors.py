"""Every built-in connector passes the suite."""

import sys
from pathlib import Path
from typing import ClassVar

import orjson

from relay.testing import AnyConnectorSuite, ConnectorSuite, Failure, SuiteDestination, find_ids
from relay_plugins.braze_cohorts.connector import BrazeCohorts
from relay_plugins.file import File
from relay_plugins.heap import Heap
from relay_plugins.http import Http
from relay_plugins.stdout import Stdout

NO_NETWORK = dict.fromkeys(
    ("unavailable", "slow", "hanging", "cut", "unauthorized"), "there is nobody at the other end"
)
APPENDS = {"idempotent": "a line that is written again is there twice, and readers tell it by its id"}


class TestHttp(ConnectorSuite):
    def make(self, url, token, folder):
        return Http("http", Http.Settings(type="http", url=url, token=token), folder=folder)


class TestHttpSingly(ConnectorSuite):
    many = 200

    def make(self, url, token, folder):
        settings = Http.Settings(type="http", url=url, token=token, body="single", gzip=True)
        return Http("http", settings, folder=folder)


class TestHeapWebhook(ConnectorSuite):
    def make(self, url, token, folder):
        return Heap("heap", Heap.Settings(type="heap", endpoint=url, token=token), folder=folder)


class TestHeapApi(ConnectorSuite):
    lacks: ClassVar = {
        "no_user": "Heap needs an identity",
        "memory": "it counts the events of a minute, for Heap's limits",
    }

    def make(self, url, token, folder):
        settings = Heap.Settings(type="heap", mode="api", app_id="17", endpoint=url)
        return Heap("heap", settings, folder=folder)


class TestBrazeCohorts(ConnectorSuite):
    lacks: ClassVar = {
        "event_id": "Braze gets users, and no events",
        "unknown_type": "it takes changes of cohorts alone",
    }

    def make(self, url, token, folder):
        settings = BrazeCohorts.Settings(
            type="braze_cohorts", endpoint=url, partner="heap", partner_key=token, data_import_key=token
        )
        return BrazeCohorts("cohorts", settings, folder=folder)

    def make_event(self, id):
        return orjson.dumps({"event_type": "cohort.Change", "cohort": {"id": "1", "name": "Lost carts"}, "add": [id]})


class Folder(SuiteDestination):
    """Files below a folder, which cannot be written if so asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def __aenter__(self):
        self.address = self.folder / "archive"
        return self

    async def arrived(self):
        files = sorted(self.folder.glob("archive/**/*.ndjson"))
        return [found for file in files for line in file.read_bytes().splitlines() for found in find_ids(line)[:1]]

    async def fail_with(self, failure: Failure):
        if failure != "refused":
            await super().fail_with(failure)
        self.address.exists() and self.address.rename(self.folder / "away")
        self.address.write_text("in the way")

    async def recover(self):
        self.address.unlink()
        (self.folder / "away").exists() and (self.folder / "away").rename(self.address)


class TestFile(AnyConnectorSuite):
    lacks: ClassVar = NO_NETWORK | APPENDS

    def destination(self, folder):
        return Folder(folder)

    def make(self, address, token, folder):
        return File("file", File.Settings(type="file", path=f"{address}/{{type}}.ndjson"), folder=folder)


class Output(SuiteDestination):
    """A file in place of standard output."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "output"

    async def __aenter__(self):
        self._before, sys.stdout = sys.stdout, self.path.open("a+")
        return self

    async def __aexit__(self, *error):
        sys.stdout.close()
        sys.stdout = self._before

    async def arrived(self):
        return find_ids(self.path.read_bytes())

    async def fail_with(self, failure: Failure):
        if failure != "refused":
            await super().fail_with(failure)
        self._open("r")

    async def recover(self):
        self._open("a+")

    def _open(self, mode):
        sys.stdout.close()
        sys.stdout = self.path.open(mode)


class TestStdout(AnyConnectorSuite):
    lacks: ClassVar = (
        NO_NETWORK | APPENDS | {"secret": "it has none, and takes the output that the behaviour would read"}
    )

    def destination(self, folder):
        return Output(folder)

    def make(self, address, token, folder):
        return Stdout("out", Stdout.Settings(type="stdout"), folder=folder)
