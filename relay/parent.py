"""Ends a child process of relay together with its parent."""

import signal
from typing import Final

PR_SET_PDEATHSIG: Final = 1
"""prctl(2)"""


def end_with_parent() -> None:
    """Have the kernel send SIGTERM to this process when its parent process ends, however the parent ends."""
    import ctypes  # late: most starts do without it

    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
