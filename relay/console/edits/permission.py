"""Who may launch, and where."""

import os

from relay.console.edits.conf import ConfView
from relay.console.edits.record import FOLDER
from relay.console.security.rights import Right
from relay.console.visit import Visit


def find_bar(visit: Visit, view: ConfView) -> str:
    """Return why a user launches nothing here; "" if the user may. Blocking."""
    if visit.right is None or visit.right < Right.CONFIGURE:
        return f"to launch takes the right to {Right.CONFIGURE}"
    options = visit.console.options
    if not (view.launch or options.launch):
        return "the console may only look at the configuration, as console.launch is false"
    for folder in (view.target, options.state / FOLDER):
        there = folder if folder.exists() else folder.parent
        if not os.access(there, os.W_OK | os.X_OK):
            return f"the console cannot write into {there}"
    return ""
