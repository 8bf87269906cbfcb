"""What this process uses."""

import resource
from pathlib import Path
from typing import Final

PAGE: Final = resource.getpagesize()


def cpu_seconds() -> float:
    """Seconds of CPU since its start."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def memory_bytes() -> int:
    """Bytes that it has in RAM. No disk is read: /proc is the kernel's."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
