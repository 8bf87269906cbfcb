"""The client of a running relay's admin API, at its unix socket or its URL. Blocking."""

import getpass
import http.client
import os
import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult

import msgspec

from relay.socket_path import SOCKET, address_of
from relay.words import escape_text

ANSWER_S: Final = 30.0
PORTS: Final = {"http": 80, "https": 443}
SERVICE: Final = (Path("/var/lib/relay"), Path("/run/relay"))
"""The service's state folder, which only its user and root may enter, and the folder of its socket for others."""
ALIVE_S: Final = 3.0
"""Seconds within which a running relay answers an empty request."""
STATES: Final = {"T": "it is stopped (kill -CONT %d lets it go on)", "D": "it waits for a disk"}
"""Linux's states of a process that does not run on."""


TOKEN: Final = "RELAY_ADMIN_TOKEN"
"""The environment variable with the token of an admin API."""


class ClientError(Exception):
    """Raised when relay cannot be asked, or refuses a request. Its text is a sentence for people."""


class Gone(ClientError):
    """Raised when relay has stopped, or does not answer."""


class NoAnswer(ClientError):
    """Raised when relay is there, and says nothing."""


class Client:
    """The admin API of a running relay. Its refusals become a ClientError with the reason."""

    def __init__(self, at: Path | SplitResult, by: str | None = None) -> None:
        """`at`: its unix socket, or its URL. `by`: who asks, for the history; None: the user of this process."""
        self._at, self._by = at, by

    def ask(self, method: str, target: str, body: object = None, *, timeout: float | None = ANSWER_S) -> Any:
        """Send a request; return the decoded answer. `timeout` in seconds; None: for ever."""
        return msgspec.json.decode(self.read(method, target, body, timeout=timeout))

    def read(self, method: str, target: str, body: object = None, *, timeout: float | None = ANSWER_S) -> bytes:
        """Send a request; return the answer as bytes."""
        with self._answer(method, target, body, timeout) as answer:
            return answer.read()

    def read_lines(
        self, target: str, timeout: float | None = ANSWER_S, *, method: str = "GET", body: object = None
    ) -> Iterator[bytes]:
        """Yield the lines of an answer as they come. `timeout` in seconds for each; None: for ever."""
        with self._answer(method, target, body, timeout) as answer:
            try:
                yield from answer
            except (OSError, http.client.HTTPException) as error:
                raise Gone(f"relay has gone away: {error}") from None

    def find_process(self) -> int:
        """Return the number of the process that listens there; 0 if it is unknown, as beyond a network."""
        connection = self._connection(ALIVE_S)
        try:
            connection.connect()
            return connection.find_process() if isinstance(connection, _Connection) else 0
        except OSError:
            return 0
        finally:
            connection.close()

    def _answer(self, method: str, target: str, body: object, timeout: float | None) -> http.client.HTTPResponse:
        self._check_alive(prefix := "" if isinstance(self._at, Path) else self._at.path.rstrip("/"))
        connection = self._connection(timeout)
        try:
            given = None if body is None else msgspec.json.encode(body)
            connection.request(method, prefix + target, given, self._headers())
            answer = connection.getresponse()
        except ssl.SSLError as error:
            raise ClientError(f"TLS: {error.reason or error}: see the URL and its certificate") from None
        except (OSError, http.client.HTTPException) as error:
            raise Gone(f"relay has gone away: {error}") from None
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            hint = f" (the token is taken from ${TOKEN})" if answer.status == http.HTTPStatus.UNAUTHORIZED else ""
            try:
                said = str(msgspec.json.decode(answer.read())["detail"]) + hint
            except (msgspec.DecodeError, KeyError, TypeError):  # an answer of a proxy, or of another server
                said = f"HTTP {answer.status} {escape_text(answer.reason)}, which no relay has said"
                said += ": is that its admin.listen?"
            raise ClientError(said)
        return answer

    def _check_alive(self, prefix: str) -> None:
        """Check that relay answers, because a long request could not show it later. Raises NoAnswer."""
        connection = self._connection(ALIVE_S)
        try:
            connection.request("HEAD", f"{prefix}/openapi.yaml", headers=self._headers())
            if connection.getresponse().status == http.HTTPStatus.NOT_FOUND:
                raise ClientError("it is no admin API that answers there: name an address of admin.listen")
        except (TimeoutError, BlockingIOError):  # BlockingIOError: too many wait for an answer already
            why = connection.describe_process() if isinstance(connection, _Connection) else "its process may be stopped"
            raise NoAnswer(f"relay does not answer within {ALIVE_S:g} s: {why}") from None
        except (OSError, http.client.HTTPException):
            return  # the request itself says it
        finally:
            connection.close()

    def _connection(self, timeout: float | None) -> http.client.HTTPConnection:
        if isinstance(self._at, Path):
            return _Connection(self._at, timeout)
        kind = http.client.HTTPSConnection if self._at.scheme == "https" else http.client.HTTPConnection
        return kind(self._at.hostname or "", self._at.port, timeout=timeout)

    def _headers(self) -> dict[str, str]:
        token = "" if isinstance(self._at, Path) else os.environ.get(TOKEN, "")
        if not token.isascii() or not token.isprintable():
            raise ClientError(f"${TOKEN} holds no token: a line break, or a character beyond ASCII, is in it")
        known = {"Authorization": f"Bearer {token}"} if token else {}
        return {"Connection": "close", "Relay-By": self._by or find_login()} | known


def find_login() -> str:
    """Return the login name of the user; with sudo, of the user who called sudo."""
    try:
        name = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        name = f"uid {os.getuid()}"
    return escape_text(name).encode("ascii", "backslashreplace").decode()


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("relay", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        with address_of(self._path) as address:
            self.sock.connect(address)

    def find_process(self) -> int:
        """Return the number of the process that listens there; 0 if it cannot be seen from here. Raises OSError."""
        return int.from_bytes(self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 4), sys.byteorder)

    def describe_process(self) -> str:
        """Describe the state of the process that listens there."""
        try:
            pid = self.find_process()
            letter = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
        except OSError:
            return "its process cannot be looked at from here"
        said = STATES.get(letter, "it is busy, or held up by a plugin, see its log")
        return f"process {pid}: {said % pid if '%' in said else said}"


def find_socket(state: Path) -> Path:
    """Return the path of the admin socket of a state folder, whether a relay runs or not."""
    # A user who may not enter the state folder finds the admin socket beside it
    folder, runtime = SERVICE
    beside = runtime / SOCKET
    return beside if state == folder and not os.access(state, os.X_OK) and beside.exists() else state / SOCKET


def find_local(state: Path, by: str | None = None) -> Client | None:
    """Return the relay that runs with a state folder, asked by `by`; None without any. Raises ClientError."""
    path = find_socket(state)
    try:
        probe(path)
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except BlockingIOError:  # too many wait to be answered: the request says so
        return Client(path, by)
    except PermissionError as error:
        raise ClientError(f"{path}: {error.strerror}; be root, or in the group admin.group") from None
    except OSError as error:
        raise ClientError(f"{path}: {error.strerror or error}") from None
    return Client(path, by)


def probe(at: Path | SplitResult) -> None:
    """Check that somebody listens there. Raises OSError."""
    if isinstance(at, SplitResult):
        socket.create_connection((at.hostname or "", at.port or PORTS[at.scheme]), ALIVE_S).close()
        return
    with socket.socket(socket.AF_UNIX) as probe, address_of(at) as address:
        probe.settimeout(ALIVE_S)
        probe.connect(address)
