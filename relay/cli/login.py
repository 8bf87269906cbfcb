"""Who gives a command."""

import os
import pwd
from contextlib import suppress


def login_name() -> str:
    """The login name of whoever gives the command, also through sudo: of the terminal, else as sudo says, else of the
    user that runs it. Nobody checks it."""
    with suppress(OSError):
        return os.getlogin()
    if name := os.environ.get("SUDO_USER"):
        return name
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
