"""PgBouncer in transaction mode: each transaction of a connection may run on another session of the server."""

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import psycopg

from tests.missing import give_up
from tests.postgres.server import Server, find_port, make_server_folder, run_as_user

MISSING = "PgBouncer is not installed: apt install pgbouncer (its own service is not used)"
SETTINGS = """
[databases]
postgres = host=127.0.0.1 port={server} dbname=postgres user=relay

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {sessions}
max_client_conn = {clients}
server_round_robin = 1
query_wait_timeout = 1
ignore_startup_parameters = extra_float_digits
"""


def find_pgbouncer() -> str:
    """Return the program of PgBouncer. Without it, give up the test."""
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if program is None:
        give_up(MISSING)
    return program


class Pooler:
    """A pooler in front of a server."""

    def __init__(self, folder: Path, server: Server, sessions: int, clients: int) -> None:
        program = find_pgbouncer()
        self.port, self._log = find_port(), folder / "log"
        settings = folder / "pgbouncer.ini"
        settings.write_text(SETTINGS.format(server=server.port, port=self.port, sessions=sessions, clients=clients))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [program, str(settings)], stdout=log, stderr=log, **run_as_user() | {"cwd": folder}
            )

    @classmethod
    @contextmanager
    def run(cls, server: Server, sessions: int = 20, clients: int = 500) -> Iterator[Self]:
        """Run a pooler for the body. `sessions`: its connections to the server; `clients`: those it takes."""
        with make_server_folder() as folder:
            pooler = cls(folder, server, sessions, clients)
            try:
                pooler._wait()
                yield pooler
            finally:
                pooler._process.send_signal(signal.SIGTERM)
                pooler._process.wait(60)

    @property
    def dsn(self) -> str:
        """How to connect through the pooler."""
        return f"host=127.0.0.1 port={self.port} user=relay dbname=postgres"

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.dsn).close()
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"PgBouncer does not start: {self._log.read_text()[-2000:]}") from error
                time.sleep(0.02)
            else:
                return
