"""The command `relay`, also as `python -m relay`."""

import signal
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line. Ctrl-C leaves no traceback of the imports, which are most of a start."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from relay.cli import main as command_line

    command_line.main()


if __name__ == "__main__":
    main()
