"""Ends the servers of a process of pytest that was killed, and removes their folders: nobody else would.

A process of its own, which waits for the end of the other one: python guard.py PID. Servers work in folders whose names
have that number.
"""

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

MEMORY = Path("/dev/shm")
PREFIX = "relay-servers"


@cache
def guard_folders() -> str:
    """Return how the names of folders of servers begin, and start the guard of this process before the first one."""
    guard = [sys.executable, "-IS", __file__, str(os.getpid())]
    os.posix_spawn(sys.executable, guard, os.environ, setsid=True)  # it outlives this process, so nobody waits for it
    return f"{PREFIX}-{os.getpid()}-"


def end_servers(pid: int) -> None:
    """Kill whatever works in the folders of a process, and remove them."""
    folders = [one for place in (MEMORY, Path(tempfile.gettempdir())) for one in place.glob(f"{PREFIX}-{pid}-*")]
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            where = Path.readlink(process / "cwd")
            if any(where.is_relative_to(one) for one in folders):
                os.kill(int(process.name), signal.SIGKILL)
    for one in folders:
        subprocess.run(["umount", "--lazy", one / "disk"], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(one, ignore_errors=True)


if __name__ == "__main__":
    with suppress(ProcessLookupError):
        select.select([os.pidfd_open(int(sys.argv[1]))], [], [])
    end_servers(int(sys.argv[1]))
