"""Real servers for tests: PostgreSQL with or without standbys, a pooler, and cables and disks that fail."""

from tests.postgres.disk import VolatileDisk
from tests.postgres.network import Cable
from tests.postgres.pooler import Pooler
from tests.postgres.replicated import Replicated
from tests.postgres.server import NEWER_TABLES, QUICK, Server, run_server
from tests.postgres.shared import end_shared_server, start_shared_pooler, start_shared_server

__all__ = [
    "NEWER_TABLES",
    "QUICK",
    "Cable",
    "Pooler",
    "Replicated",
    "Server",
    "VolatileDisk",
    "end_shared_server",
    "run_server",
    "start_shared_pooler",
    "start_shared_server",
]
