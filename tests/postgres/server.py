"""A real PostgreSQL server in a folder of its own, which ends as servers end: in order, by a crash, or by hanging."""

import atexit
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg

from relay.postgres.connection import Database
from relay.postgres.schema import make_tables
from tests.certificates import Authority
from tests.missing import give_up
from tests.postgres.guard import MEMORY, guard_folders

NEWER_TABLES = """
DO $body$ DECLARE found record; BEGIN
    FOR found IN SELECT oid::regclass AS name FROM pg_class
        WHERE relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = '$.cluster'::regclass) AND relkind = 'r'
    LOOP
        EXECUTE format('ALTER TABLE %s ADD COLUMN added text NOT NULL DEFAULT 7', found.name);
    END LOOP;
END $body$;
CREATE TABLE $.more (one integer PRIMARY KEY)
"""
"""SQL that does to relay's tables, in the schema `$`, what a newer relay may do: a table more, and a column in each."""
MISSING = "PostgreSQL is not installed: apt install postgresql (its own cluster is not used)"
QUICK: Mapping[str, str] = {
    "shared_buffers": "16MB",
    "dynamic_shared_memory_type": "mmap",  # leaves nothing outside its folder when it is killed
    "max_connections": "200",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
    "autovacuum": "off",
    "log_min_messages": "fatal",
    "max_wal_size": "128MB",
    "wal_keep_size": "32MB",
    "hot_standby_feedback": "off",
}
"""Settings of the server of all tests."""
START_S = 60.0
ROOM = 4 << 30
"""Bytes that must be free in memory, or the folders of servers are on disk."""
PORTS = range(20_000, 32_000)
"""Not among the ports that the kernel gives to outgoing connections, so a server finds its port free after a crash."""
_numbers = count(1)
_empty: list[Path] = []
_end = ExitStack()
atexit.register(_end.close)


def find_program(name: str) -> str:
    """Return a program of the newest PostgreSQL on this machine. Without it, give up the test."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda one: int(one.parts[-3]))
    path = str(found[-1]) if found else shutil.which(name)
    if path is None:
        give_up(MISSING)
    return path


def find_port() -> int:
    """Return a port of loopback where nobody listens."""
    while True:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port := random.choice(PORTS)))
            return port


def find_user() -> str:
    """Return the user who runs servers: PostgreSQL refuses root."""
    return "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


def run_as_user() -> dict[str, Any]:
    """Return the options of `subprocess` for a process of the user who runs servers."""
    return {"user": find_user(), "cwd": "/"} if os.geteuid() == 0 else {"cwd": "/"}


def is_alive(pid: int) -> bool:
    """Return whether a process runs. A zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@contextmanager
def make_server_folder() -> Iterator[Path]:
    """Lend a folder that belongs to the user who runs servers. It is in memory if there is room: syncs cost nothing."""
    find_program("initdb")  # the user comes with PostgreSQL
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM
    folder = Path(tempfile.mkdtemp(prefix=guard_folders(), dir=MEMORY if roomy else None))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, find_user())
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def run_server(place: Path | None = None, **settings: str) -> Iterator["Server"]:
    """Run a server of its own for the body, in a folder that goes with it or in `place`."""
    with nullcontext(place) if place else make_server_folder() as folder:
        server = Server(folder, {**QUICK, **settings})
        try:
            server.start()
            yield server
        finally:
            server.end()


class Server:
    """A server in a folder of its own."""

    def __init__(self, folder: Path, settings: Mapping[str, str] = QUICK, primary: "Server | None" = None) -> None:
        """Make the files of a server. `primary`: the server that it is a standby of."""
        self.name, self.port, self.folder = folder.name.replace("-", "_"), find_port(), folder / "data"
        self._settings = {**settings, "port": str(self.port)}
        self._process: subprocess.Popen[bytes] | None = None
        self._segment = ""
        """Id of the shared memory that a killed server leaves behind."""
        if primary is None:
            self._copy_empty()
        else:
            self.copy(primary)

    @property
    def pid(self) -> int:
        """Return the process id of the server's first process, whose children are the others."""
        assert self._process is not None
        return self._process.pid

    def _copy_empty(self) -> None:
        """Make the files of an empty server: `initdb` makes them once, for they are the same each time."""
        if not _empty:
            folder = _end.enter_context(make_server_folder()) / "data"
            self.run("initdb", "-D", str(folder), "-U", "relay", "-A", "trust", "-N", "--wal-segsize=1")
            _empty.append(folder)
        self.run("cp", "-a", str(_empty[0]), str(self.folder))

    def copy(self, primary: "Server") -> None:
        """Make the files anew, as those of a standby with a slot at the primary."""
        shutil.rmtree(self.folder, ignore_errors=True)
        where = f"{primary.dsn} application_name={self.name}"
        primary.execute(
            f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name='{self.name}'"
        )
        self.run("pg_basebackup", "-D", str(self.folder), "-d", where, "-RCS", self.name, "-c", "fast", "-N")

    @property
    def dsn(self) -> str:
        """How to connect."""
        return f"host=127.0.0.1 port={self.port} user=relay dbname=postgres"

    @property
    def log(self) -> str:
        """What the server has written since it was made."""
        return self.folder.with_name("log").read_text()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def run(self, program: str, *arguments: str) -> None:
        """Run a program of PostgreSQL as the server's user."""
        done = subprocess.run([find_program(program), *arguments], capture_output=True, check=False, **run_as_user())
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stderr.decode()}")

    def start(self, **settings: str) -> None:
        """Start, and wait until the server answers. `settings`: changed settings."""
        self._settings |= settings
        options = [part for key, value in self._settings.items() for part in ("-c", f"{key}={value}")]
        with self.folder.with_name("log").open("ab") as log:
            command = [find_program("postgres"), "-D", str(self.folder), *options]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **run_as_user())
        deadline = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL does not start: {self.log[-2000:]}")
            time.sleep(0.02)
        self._segment = (self.folder / "postmaster.pid").read_text().splitlines()[6].split()[-1]

    def _answers(self) -> bool:
        ready = find_program("pg_isready")
        return subprocess.run([ready, "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False).returncode == 0

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop with a checkpoint. `how`: SIGQUIT for a stop without one."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(60)
            self._process = None

    def freeze(self) -> None:
        """Stop all processes in the middle of what they do: connections stay, and nothing answers."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Have all processes go on."""
        self._signal_all(signal.SIGCONT)

    def kill(self) -> None:
        """Kill all processes at once, as the death of the machine does."""
        if self._process is not None:
            pids = self._signal_all(signal.SIGSTOP, signal.SIGKILL)
            self._process.wait(60)
            while any(map(is_alive, pids)):  # the files of the server are in use until then
                time.sleep(0.005)
            if self._segment:
                subprocess.run(["ipcrm", "-m", self._segment], check=True)
            self._process = None

    def _signal_all(self, *numbers: signal.Signals) -> list[int]:
        """Signal the first process, then its children: it cannot start others in between once it is stopped. Return
        the children."""
        assert self._process is not None
        first = self._process.pid
        for number in numbers:
            children = [int(pid) for pid in Path(f"/proc/{first}/task/{first}/children").read_text().split()]
            for pid in (first, *children):
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
        return children

    def end(self) -> None:
        """End the server, whatever its state."""
        if self._process is not None and self._process.poll() is None:
            self.kill()  # a child that was forked while the server was frozen may never obey

    def reload(self, **settings: str) -> None:
        """Change settings of the running server that the command line does not give."""
        for name, value in settings.items():
            self.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        loaded = self.execute("SELECT pg_conf_load_time(), pg_reload_conf()")[0][0]
        while self.execute("SELECT pg_conf_load_time()") == [(loaded,)]:
            time.sleep(0.005)
        if "synchronous_standby_names" in settings:  # the checkpointer tells the others of it, and may not have yet:
            for _ in range(2):  # it reads its settings before the second of two checkpoints, at the latest
                self.execute("CHECKPOINT")

    def admit(self, *rules: str) -> None:
        """Write the rules of pg_hba.conf for all but the superuser."""
        lines = ["host all relay 127.0.0.1/32 trust", *rules]
        self.folder.joinpath("pg_hba.conf").write_text("\n".join(lines) + "\n")
        self.reload()

    def use_certificate(self, authority: Authority) -> None:
        """Talk TLS with the certificate that the authority issued last. Clients may have one of the same authority."""
        for name in (authority.certificate, authority.key, authority.ca):
            own = self.folder / name.name
            own.write_bytes(name.read_bytes())
            own.chmod(0o600)
            shutil.chown(own, find_user())
        names = {"ssl_cert_file": authority.certificate, "ssl_key_file": authority.key, "ssl_ca_file": authority.ca}
        self.reload(ssl="on", **{setting: path.name for setting, path in names.items()})

    def execute(self, statement: str, values: Sequence[object] | None = None) -> list[tuple[object, ...]]:
        """Run a statement as the superuser; return its rows."""
        with psycopg.connect(self.dsn, autocommit=True) as db:
            cursor = db.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def make_database(self, partitions: int = 1, dsn: str = "") -> Database:
        """Make relay's tables in a new schema. Close the result. `dsn`: how to connect; directly by default."""
        database = Database(dsn or self.dsn, f"test_{next(_numbers)}_{uuid4().hex[:6]}")
        with database.connect() as db:
            make_tables(db, partitions)
        return database
