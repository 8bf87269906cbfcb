"""relay on the toy store: `python -m tests.process.toy_relay COMMAND...`, where COMMAND ends as that of relay does.

With TOY_PARTITIONS processes share so many partitions. The file TOY_WORLD says what other processes do.
"""

import os
import sys
from pathlib import Path
from typing import Any, cast

from relay.cli import main
from relay.cli.commands.running import run
from relay.runtime import daemon
from tests.toy_store.shared import ToyWorld
from tests.toy_store.store import ToyStore

REPORT_S = 0.5
"""Seconds between two reports of a process: tests wait for some."""

if __name__ == "__main__":
    file = os.environ.get("TOY_WORLD")
    store = ToyStore(int(os.environ.get("TOY_PARTITIONS", "0")), ToyWorld(file=Path(file) if file else None))
    cast("Any", run).open_store = lambda *_: store
    cast("Any", daemon).REPORT_S = REPORT_S
    sys.argv = ["relay", *sys.argv[sys.argv.index("relay") + 1 :]]
    main.main()
