"""relay as it is installed: its --conf is what /etc/relay/conf.d is elsewhere, so that the console's folder counts."""

import sys
from pathlib import Path
from typing import Any, cast

from relay.cli import main
from relay.config.console import folder

if __name__ == "__main__":
    at = sys.argv.index("--conf")
    cast("Any", folder).CONF_FOLDERS = (Path(sys.argv[at + 1]), Path("/not/there"))
    sys.argv = ["relay", *sys.argv[1:at], *sys.argv[at + 2 :]]
    main.main()
