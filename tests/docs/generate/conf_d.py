"""The comments of the files in conf.d: above each setting stands what its model says of it.

The files themselves are written by hand: which settings they show, in which order, and what stands apart from a setting
by an empty line. The lines directly above a setting are made anew.
"""

import re
import textwrap
import tomllib
from pathlib import Path
from typing import Final

from relay.api import Settings
from relay.config.descriptions import summarize
from relay.config.model import OWN_TABLES
from relay.config.plugins.registry import KINDS
from relay.config.route_tests.settings import RouteTestSettings
from tests.docs.generate.builtin import builtin
from tests.docs.generate.configuration import settings_of

TABLE: Final = re.compile(r"\[(\w+)(?:\.(\w+))?\]")
SETTING: Final = re.compile(r"(?:# +)?([a-z_]+) = ")
OBVIOUS: Final = ("type", "enabled")
WIDTH: Final = 120


def with_comments(path: Path) -> str:
    """Return the text of a file with its comments made anew. Raises LookupError for a setting that does not exist."""
    text = path.read_text(encoding="utf-8")
    tables = tomllib.loads(text)
    lines: list[str] = []
    settings: dict[str, str] = {}
    for line in text.splitlines():
        if found := TABLE.fullmatch(line):
            model = _model(tables, *found.groups(""))
            settings = {name: summarize(one.text) for name, one in settings_of(model).items()}
        if (found := SETTING.match(line)) and found[1] not in OBVIOUS:
            if found[1] not in settings:
                raise LookupError(f"{path.name}: there is no setting {found[1]} in its table")
            while lines and lines[-1].startswith("#") and not SETTING.match(lines[-1]):
                lines.pop()
            lines += textwrap.wrap(settings[found[1]], WIDTH, initial_indent="# ", subsequent_indent="# ")
        lines.append(line)
    return "\n".join(lines) + "\n"


def _model(tables: dict[str, dict[str, dict[str, str]]], kind: str, name: str) -> type[Settings]:
    """Find the model of a table, such as [ingest] or [connector.heap]."""
    if kind == "test":
        return RouteTestSettings
    if kind not in KINDS:
        return OWN_TABLES[kind]
    model: type[Settings] = builtin(kind)[tables[kind][name]["type"]].Settings
    return model
