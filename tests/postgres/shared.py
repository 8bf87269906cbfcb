"""The server of all tests of one process of pytest. Each test makes a schema of its own there."""

from contextlib import ExitStack

from tests.postgres.server import Server, run_server

_running: list[Server] = []
_end = ExitStack()


def start_shared_server() -> Server:
    """Return the server of all tests of this process. The first call starts it."""
    if not _running:
        _running.append(_end.enter_context(run_server()))
    return _running[0]


def end_shared_server() -> None:
    """End the server of all tests of this process, and remove its folder."""
    _end.close()
    _running.clear()
