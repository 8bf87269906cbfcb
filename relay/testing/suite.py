"""What every connector that speaks HTTP must show: subclass `ConnectorSuite` in a test module."""
# ruff: noqa: S101 - these are tests, only that they live in the package

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from relay.api import Batch, Connector, Delivered, Outcome, Reject, Secret, Unauthorized, User
from relay.testing.build import make_batch, make_event
from relay.testing.destination import Answer, Destination
from relay.testing.memory_store import MemoryStore

TOKEN = "a-secret-that-nobody-may-see"


class ConnectorSuite:
    """Tests of an HTTP connector. Subclass it with a name that begins with `Test`, and write `make`.

    It needs pytest with pytest-asyncio in auto mode.
    """

    def make(self, url: str, token: Secret, folder: Path) -> Connector:
        """Return the connector under test.

        `url`: the URL of the destination. `token`: a reference to a secret, for a setting of the type `Secret`; leave
        it out if the connector has no secret. `folder`: the state folder.
        """
        raise NotImplementedError

    async def test_delivers_a_batch(self, tmp_path: Path) -> None:
        async with Destination() as destination, self._open(destination.url, tmp_path) as connector:
            outcomes = await connector.deliver(_make_batch())
            assert outcomes is None or all(isinstance(outcome, Delivered) for outcome in outcomes)
            assert destination.requests

    async def test_retries_when_the_connection_is_refused(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            closed_port = f"http://127.0.0.1:{server.getsockname()[1]}/"
        async with self._open(closed_port, tmp_path) as connector:
            _assert_retried(await _deliver(connector))

    async def test_retries_when_the_destination_is_unavailable(self, tmp_path: Path) -> None:
        async with Destination() as destination, self._open(destination.url, tmp_path) as connector:
            destination.behaviour = 503
            _assert_retried(await _deliver(connector))

    async def test_keeps_its_secret_out_of_what_it_says(self, tmp_path: Path) -> None:
        async with Destination() as destination, self._open(destination.url, tmp_path) as connector:
            for status in (400, 401, 503):
                destination.behaviour = Answer(status=status, body=b"no")
                assert TOKEN not in repr(await _deliver(connector))

    async def test_blocks_in_threads_of_its_own_alone(self, tmp_path: Path) -> None:
        with Shared() as shared:
            asyncio.get_running_loop().set_default_executor(shared)
            async with Destination() as destination, self._open(destination.url, tmp_path) as connector:
                await _deliver(connector)
                with suppress(Exception):  # any exception is an outcome to a lane
                    await connector.erase([User("639a35d192b0df004d06514c", ("customer-1",))])
        found = ", ".join(sorted({*shared.work}))
        assert not found, f"{found}: use self.run_blocking, asyncio.to_thread has threads that all plugins share"

    async def test_can_be_opened_again(self, tmp_path: Path) -> None:
        async with Destination() as destination, self._open(destination.url, tmp_path) as connector:
            await connector.release()
            await connector.open()
            assert not isinstance(await _deliver(connector), Exception)

    async def test_can_be_closed_twice(self, tmp_path: Path) -> None:
        async with Destination() as destination, self._open(destination.url, tmp_path) as connector:
            await connector.close()

    @asynccontextmanager
    async def _open(self, url: str, folder: Path) -> AsyncIterator[Connector]:
        token = folder / "token"
        token.write_text(TOKEN)
        connector = self.make(url, Secret("file", str(token)), folder)
        vars(connector).setdefault("store", MemoryStore())
        await connector.open()
        try:
            yield connector
        finally:
            await connector.release()


class Shared(ThreadPoolExecutor):
    """The default threads of asyncio, with a record of their work."""

    def __init__(self) -> None:
        super().__init__(1)
        self.work: list[str] = []

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **more: Any) -> Future[Any]:
        """Do the work, and record its name."""
        meant = getattr(work, "args", (work,))[0]  # asyncio.to_thread hands over what it is to do as an argument
        self.work.append(getattr(meant, "__qualname__", repr(meant)))
        return super().submit(work, *arguments, **more)


async def _deliver(connector: Connector) -> Exception | Sequence[Outcome] | None:
    """Deliver a batch. Return the outcomes, or the exception."""
    try:
        return await connector.deliver(_make_batch())
    except Exception as error:  # any exception is an outcome to a lane
        return error


def _assert_retried(said: Exception | Sequence[Outcome] | None) -> None:
    outcomes = said if isinstance(said, Sequence) else [said]
    for outcome in outcomes:
        assert isinstance(outcome, Exception), f"events that did not arrive count as delivered: {said!r}"
        assert not isinstance(outcome, Reject | Unauthorized), f"a passing trouble is taken for a lasting one: {said!r}"


def _make_batch() -> Batch:
    return make_batch([make_event(), make_event("users.behaviors.CustomEvent", name="basket")])
