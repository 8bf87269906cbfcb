"""A mock cluster in a process of its own: none of its threads and files are in pytest."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

_names = count(1)
_running: list["MockCluster"] = []
_end = ExitStack()


class Stored(NamedTuple):
    """A message as a consumer reads it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: dict[str, bytes]
    time: int


class MockCluster:
    """Three brokers. Everything that they have is in the memory of their process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("brokers.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.servers: list[str] = json.loads(self._process.stdout.readline())
        self._read = dict[str, list[Stored]]()

    def make_topic(self, partitions: int = 3) -> str:
        """Make a topic with a name that no other has."""
        topic = f"topic-{next(_names)}"
        self.ask("create", topic, partitions)
        return topic

    def read(self, topic: str) -> list[Stored]:
        """Return all messages of a topic, by partition in order."""
        found = self._read.setdefault(topic, [])
        for one in self.ask("read", topic):
            headers = {name: value.encode("latin-1") for name, value in one["headers"]}
            key = None if one["key"] is None else one["key"].encode("latin-1")
            value = one["value"].encode("latin-1")
            found.append(Stored(one["partition"], one["offset"], key, value, headers, one["time"]))
        return found

    def ask(self, name: str, *arguments: Any) -> Any:
        """Call a function of `Brokers`. Raises RuntimeError with its error."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([name, *arguments]) + "\n")
        self._process.stdin.flush()
        answer, error = json.loads(self._process.stdout.readline())
        if error:
            raise RuntimeError(error)
        return answer

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def run_cluster() -> Iterator[MockCluster]:
    """Run a cluster for the body."""
    cluster = MockCluster()
    try:
        yield cluster
    finally:
        cluster.end()


def start_shared_cluster() -> MockCluster:
    """Return the cluster of all tests of this process. The first call starts it."""
    if not _running:
        _running.append(_end.enter_context(run_cluster()))
    return _running[0]


def end_shared_cluster() -> None:
    """End the cluster of all tests of this process."""
    _end.close()
    _running.clear()
