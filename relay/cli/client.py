"""How commands reach a state folder: through the admin API of the relay that runs with it, or, if none runs, directly.

Both ways end in the same functions of `relay.journal`.
"""

import http.client
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from relay.admin import SOCKET
from relay.cli.login import login_name
from relay.socket_path import address_of

ANSWER_S: Final = 30.0


class Gone(click.ClickException):
    """Relay has stopped, or does not answer."""


class Client:
    """The admin API of a relay that runs. Whatever it refuses is a ClickException with its reason."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def ask(self, method: str, target: str, body: object = None, *, timeout: float | None = ANSWER_S) -> Any:
        """The answer to a request, decoded; it may take `timeout` seconds (None: for ever)."""
        return msgspec.json.decode(self.read(method, target, body, timeout=timeout))

    def read(self, method: str, target: str, body: object = None, *, timeout: float | None = ANSWER_S) -> bytes:
        """The answer to a request as it comes."""
        with self._answer(method, target, body, timeout) as answer:
            return answer.read()

    def lines(self, target: str, timeout: float | None = ANSWER_S) -> Iterator[bytes]:
        """The lines of an answer while they come; each may take as long as `timeout` (seconds, None: for ever)."""
        with self._answer("GET", target, None, timeout) as answer:
            try:
                yield from answer
            except (OSError, http.client.HTTPException) as error:
                raise Gone(f"relay has gone away: {error}") from None

    def _answer(self, method: str, target: str, body: object, timeout: float | None) -> http.client.HTTPResponse:
        connection = _Connection(self._path, timeout)
        try:
            given = None if body is None else msgspec.json.encode(body)
            connection.request(method, target, given, {"Connection": "close", "Relay-By": login_name().encode()})
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise Gone(f"relay has gone away: {error}") from None
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            raise click.ClickException(str(msgspec.json.decode(answer.read())["detail"]))
        return answer


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("relay", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        with address_of(self._path) as address:
            self.sock.connect(address)


def running(state: Path) -> Client | None:
    """The relay that runs with a state folder; None if none does."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            with address_of(state / SOCKET) as address:
                probe.connect(address)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except OSError as error:
            raise click.ClickException(f"{state / SOCKET}: {error.strerror or error}") from None
    return Client(state / SOCKET)


def needed(state: Path) -> Client:
    """The same for commands that cannot do without."""
    client = running(state)
    if client is None:
        raise click.ClickException(f"no relay runs with the state folder {state} (relay audit shows its books)")
    return client
