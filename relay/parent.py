"""What a process that relay has started owes to the one that started it."""

import ctypes
import signal
from typing import Final

PR_SET_PDEATHSIG: Final = 1
"""prctl(2)"""


def end_with_parent() -> None:
    """Have this process stop when the one that started it is gone, however that ended."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
