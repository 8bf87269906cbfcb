"""Tries in a separate process whether plugins load as their files are now. This process keeps its code."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

PROBE_S: Final = 25.0
"""Seconds that loading all plugins may take, also on a busy machine. A command waits 30 s for an answer."""


class Probed(Struct, frozen=True):
    """The result for the plugins. `fault`: why there is none, which is a plugin's fault as well."""

    plugins: Sequence[dict[str, object]] = ()
    fault: str | None = None

    def find_fault(self, name: str, path: Path) -> str | None:
        """Return why the plugin of this name cannot be used as its files are now; None if it can."""
        if not path.exists():
            return "its file is gone"
        found = [one for one in self.plugins if one["name"] == name]
        mine = [one for one in found if one["origin"] == str(path)] or found
        error = mine[0]["error"] if mine else self.fault
        return None if error is None else str(error).partition("\n")[0]


def probe(folders: Sequence[Path]) -> Probed:
    """Load the plugins in these folders and the installed ones in a separate process, within PROBE_S."""
    # The command refuses a missing folder, and relay itself starts without the folder
    options = [option for folder in folders if folder.is_dir() for option in ("--plugins", str(folder))]
    command = [sys.executable, "-m", "relay", "plugins", "--json", *options]
    environ = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
    try:
        done = subprocess.run(  # noqa: S603  nothing of it is from outside
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_S, check=True, env=environ
        )
        return Probed(json.loads(done.stdout))
    except subprocess.TimeoutExpired:
        return Probed(fault=f"the plugins were not loaded within {PROBE_S:g} s")
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        return Probed(fault=f"loading the plugins failed: {type(error).__name__}")
