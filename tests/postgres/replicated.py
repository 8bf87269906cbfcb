"""A primary with standbys: one database on several servers, of which any may die or hang."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Self

from tests.postgres.server import QUICK, Server, make_server_folder

RECEIVED = "SELECT pg_last_wal_receive_lsn() - '0/0'::pg_lsn"


class Replicated:
    """A primary and its standbys. A commit waits until one of the standbys has it on disk, too."""

    def __init__(self, primary: Server, standbys: list[Server]) -> None:
        self.primary, self.standbys = primary, standbys
        self.servers = [primary, *standbys]

    @classmethod
    @contextmanager
    def run(cls, standbys: int = 2, settings: Mapping[str, str] = QUICK) -> Iterator[Self]:
        """Run the servers for the body."""
        with ExitStack() as stack:
            folders = [stack.enter_context(make_server_folder()) for _ in range(standbys + 1)]
            primary = Server(folders[0], settings)
            stack.callback(primary.end)
            primary.start()
            made = cls(primary, [])
            for folder in folders[1:]:
                standby = Server(folder, settings, primary)
                stack.callback(standby.end)
                standby.start()
                made.standbys.append(standby)
                made.servers.append(standby)
            made.wait_for_standbys()
            yield made

    @property
    def dsn(self) -> str:
        """How to connect to whichever server is the primary."""
        return make_dsn([server.port for server in self.servers])

    def wait_for_standbys(self) -> None:
        """Have commits of the primary wait for one of the standbys, once all of them follow."""
        deadline = time.monotonic() + 60
        while self.primary.execute("SELECT count(*) FROM pg_stat_replication") != [(len(self.standbys),)]:
            assert time.monotonic() < deadline, [server.log[-1000:] for server in self.servers]
            time.sleep(0.02)
        names = ", ".join(standby.name for standby in self.standbys)
        self.primary.reload(synchronous_standby_names=f"ANY 1 ({names})")

    def promote(self) -> None:
        """Make the standby that knows most the primary, and have the others follow it. The former primary is dead."""
        former = self.primary
        assert not former.is_running
        self.primary = max(self.standbys, key=lambda standby: standby.execute(RECEIVED))
        self.standbys.remove(self.primary)
        for standby in self.standbys:
            self.primary.execute(f"SELECT pg_create_physical_replication_slot('{standby.name}')")
        names = ", ".join(standby.name for standby in [*self.standbys, former])
        self.primary.reload(synchronous_standby_names=f"ANY 1 ({names})")
        self.primary.run("pg_ctl", "promote", "-D", str(self.primary.folder))
        for standby in self.standbys:
            standby.reload(primary_conninfo=f"{self.primary.dsn} application_name={standby.name}")

    def bring_back(self, former: Server) -> None:
        """Make a server that was the primary a standby of the present one."""
        former.copy(self.primary)
        former.start()
        self.standbys.append(former)
        self.wait_for_standbys()


def make_dsn(ports: list[int], more: str = "target_session_attrs=read-write") -> str:
    """Return the dsn of servers of which one is the primary."""
    hosts = ",".join("127.0.0.1" for _ in ports)
    return f"host={hosts} port={','.join(map(str, ports))} user=relay dbname=postgres {more}"
