"""What is still on its way when the suite cuts a delivery off is no mistake of the connector."""

import time
from pathlib import Path

from relay.api import Connector, ConnectorSettings
from relay.testing import Answer, AnyConnectorSuite, ConnectorSuite, SuiteDestination, find_ids
from relay.testing.suite import HttpDestination
from tests.unit.testing.wrong_connectors import Good


class LateServer(HttpDestination):
    """Takes the requests that hang."""

    async def fail_with(self, failure):
        await super().fail_with(failure)
        if failure == "hanging":
            self.server.behaviour = Answer(hang=True)


class OverALateServer(ConnectorSuite):
    def destination(self, folder):
        return LateServer()

    def make(self, url, token, folder):
        return Good("chat", Good.Settings(type="chat", url=url, token=token), folder=folder)


def test_events_of_a_delivery_that_was_cut_off_may_arrive_twice(tmp_path: Path) -> None:
    OverALateServer().run("hanging", tmp_path)


class Slow(Connector):
    """Writes files in a thread. A first write is slower than a second write, and empties the file on its way."""

    class Settings(ConnectorSettings):
        path: str

    async def open(self):
        self.begun = set()

    async def deliver(self, batch):
        await self.run_blocking(self.write, Path(self.settings.path, str(batch.offsets()[0])), batch.lines())

    def write(self, file, content):
        if file in self.begun:
            file.write_bytes(content)
            time.sleep(0.04)
            return
        self.begun.add(file)
        time.sleep(0.02)
        file.write_bytes(b"")
        time.sleep(0.06)
        file.write_bytes(content)


class Files(SuiteDestination):
    def __init__(self, folder: Path) -> None:
        self.address = folder

    async def arrived(self):
        return [found for file in self.address.iterdir() for found in find_ids(file.read_bytes())]


class OfSlowFiles(AnyConnectorSuite):
    def destination(self, folder):
        return Files(folder)

    def make(self, address, token, folder):
        return Slow("slow", Slow.Settings(type="slow", path=str(address)), folder=folder)


def test_a_delivery_begins_once_the_thread_of_the_one_before_is_back(tmp_path: Path) -> None:
    OfSlowFiles().run("cancelled", tmp_path)
