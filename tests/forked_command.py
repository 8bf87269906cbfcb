"""Is `relay` for tests that start a program: a process that has imported relay forks it (`tests.forks`).

Usage: python -SIB forked_command.py DOOR [ARGUMENT]... Standard streams, environment and folder are those of this
process. It passes signals on, ends as relay ends, and relay ends with it.
"""

import json
import os
import signal
import socket
import sys


def main() -> None:
    """Order a relay, and wait for its end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    folder = os.getcwd()  # noqa: PTH109  pathlib takes as long to import as all else here
    order = {"module": "relay", "arguments": sys.argv[2:], "environ": dict(os.environ), "folder": folder}
    with theirs, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        door.connect(sys.argv[1])
        message = json.dumps({**order, "numbers": [0, 1, 2]}).encode()
        socket.send_fds(door, [message], [theirs.fileno(), 0, 1, 2])
    pid = int(ours.recv(32))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(pid, number))
    if (code := int(ours.recv(32))) < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


main()
