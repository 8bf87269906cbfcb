"""This process, as the other processes of the cluster know it."""

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4


def name_machine(process: int | None = None) -> str:
    """Return a name of the present boot of this machine and of this container; "" if the system tells none.

    `process`: name it as this other process does. In a container of systemd-nspawn a service sees another boot than a
    shell does. Only root may look at what others see.
    """
    root, number = (Path("/"), "self") if process is None else (Path(f"/proc/{process}/root"), process)
    try:
        boot = (root / "proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {Path(f'/proc/{number}/ns/pid').stat().st_ino}"
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that may work with partitions."""

    node: str
    """The name of its node."""
    worker: int = 0
    """The number of the worker within the node."""
    instance: UUID = field(default_factory=uuid4)
    """Tells this process from one that was started before or beside it under the same name."""
    host: str = field(default_factory=socket.gethostname)
    number: int = field(default_factory=os.getpid)
    machine: str = field(default_factory=name_machine)
    """Where `number` means this process, as `name_machine` has it."""


def is_gone(number: int, machine: str) -> bool:
    """Return whether another process is known to have ended. Only processes of this machine are known."""
    if not machine or machine != name_machine():
        return False
    if number == os.getpid():
        return True
    try:
        os.kill(number, 0)
    except OSError as error:  # a process of another user may not be asked, and runs
        return isinstance(error, ProcessLookupError)
    return False
