"""A real PostgreSQL server for tests: one for each process of pytest, with a schema for each test."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from uuid import uuid4

import psycopg

from relay.postgres.connection import Database
from relay.postgres.schema import make_tables
from relay.sandbox.daemon import find_free_port

MISSING = "PostgreSQL is not installed: apt install postgresql (its own cluster is not used)"
QUICK: Mapping[str, str] = {
    "fsync": "off",  # a test that is about power cuts makes a server of its own
    "shared_buffers": "16MB",
    "max_connections": "200",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
    "autovacuum": "off",
    "log_min_messages": "fatal",
    "max_wal_size": "256MB",
}
"""Settings of the server of all tests."""
START_S = 60.0
_numbers = count(1)


def find_program(name: str) -> str:
    """Return a program of the newest PostgreSQL on this machine. Raises FileNotFoundError."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda one: int(one.parts[-3]))
    path = str(found[-1]) if found else shutil.which(name)
    if path is None:
        raise FileNotFoundError(MISSING)
    return path


class Server:
    """A server in a folder of its own."""

    def __init__(self, folder: Path, settings: Mapping[str, str] = QUICK) -> None:
        self.folder, self.port = folder / "data", find_free_port()
        self._settings = {**settings, "port": str(self.port)}
        self._process: subprocess.Popen[bytes] | None = None
        self._user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        if os.geteuid() == 0:
            shutil.chown(folder, self._user)
        self.run("initdb", "-D", str(self.folder), "-U", "relay", "-A", "trust", "-N", "--no-instructions")

    @property
    def dsn(self) -> str:
        """How to connect."""
        return f"host=127.0.0.1 port={self.port} user=relay dbname=postgres"

    def run(self, program: str, *arguments: str) -> None:
        """Run a program of PostgreSQL as the server's user."""
        command = [find_program(program), *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd="/", **self._as_user())

    def _as_user(self) -> dict[str, str]:
        return {"user": self._user} if os.geteuid() == 0 else {}

    def start(self, **settings: str) -> None:
        """Start, and wait until the server answers. `settings`: changed settings."""
        self._settings |= settings
        options = [part for key, value in self._settings.items() for part in ("-c", f"{key}={value}")]
        log = (self.folder.parent / "log").open("ab")
        with log:
            command = [find_program("postgres"), "-D", str(self.folder), *options]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", **self._as_user())
        self._await_answer()

    def _await_answer(self) -> None:
        deadline = time.monotonic() + START_S
        while True:
            try:
                psycopg.connect(self.dsn).close()
            except psycopg.OperationalError as error:
                assert self._process is not None
                if self._process.poll() is not None or time.monotonic() > deadline:
                    said = (self.folder.parent / "log").read_text()[-2000:]
                    raise RuntimeError(f"PostgreSQL does not start: {said}") from error
                time.sleep(0.05)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop: at once (SIGQUIT or SIGKILL as after a crash), or by default with a checkpoint."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(60)
            self._process = None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server's first process."""
        assert self._process is not None
        self._process.send_signal(number)

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Run a statement as the superuser; return its rows."""
        with psycopg.connect(self.dsn, autocommit=True) as db:
            cursor = db.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def make_database(self, partitions: int = 1) -> Database:
        """Make relay's tables in a new schema. Close the result."""
        database = Database(self.dsn, f"test_{next(_numbers)}_{uuid4().hex[:6]}")
        with database.connect() as db:
            make_tables(db, partitions)
        return database


_shared: list[Server] = []


def start_shared_server() -> Server:
    """Return the server of all tests of this process. The first call starts it."""
    if not _shared:
        _shared.append(Server(Path(tempfile.mkdtemp(prefix="relay-postgres-"))))
        _shared[0].start()
    return _shared[0]


def end_shared_server() -> None:
    """End the server of all tests of this process, and remove its folder."""
    while _shared:
        server = _shared.pop()
        server.stop(signal.SIGQUIT)
        shutil.rmtree(server.folder.parent, ignore_errors=True)
