"""relay on the toy store: `python -m tests.process.toy_relay COMMAND...`, where COMMAND ends as that of relay does."""

import sys

from relay.cli import main
from relay.cli.commands.running import run
from tests.toy_store.store import ToyStore

if __name__ == "__main__":
    store = ToyStore()
    run.open_store = lambda *_: store  # type: ignore[attr-defined]
    sys.argv = ["relay", *sys.argv[sys.argv.index("relay") + 1 :]]
    main.main()
