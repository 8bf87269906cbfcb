"""The server and the pooler of all tests of one process of pytest. Each test makes a schema of its own there."""

from contextlib import ExitStack

from tests.postgres.pooler import Pooler
from tests.postgres.server import Server, run_server

_running: list[Server] = []
_pooling: list[Pooler] = []
_end = ExitStack()


def start_shared_server() -> Server:
    """Return the server of all tests of this process. The first call starts it."""
    if not _running:
        _running.append(_end.enter_context(run_server()))
    return _running[0]


def start_shared_pooler() -> Pooler:
    """Return the pooler in front of the server of all tests of this process. The first call starts it."""
    if not _pooling:
        _pooling.append(_end.enter_context(Pooler.run(start_shared_server())))
    return _pooling[0]


def end_shared_server() -> None:
    """End the server and the pooler of all tests of this process, and remove their folders."""
    _end.close()
    _running.clear()
    _pooling.clear()
