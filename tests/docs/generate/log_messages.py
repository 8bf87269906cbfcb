"""docs/reference/log-messages.md: every message of the log, by subject, the gravest first."""

from collections.abc import Iterator
from typing import Final

from relay.log_messages import ROOMS
from relay.log_messages.message import LogMessage
from tests.docs.generate.markdown import code, document, table

LEVELS: Final = ("error", "warning", "info", "debug")
INTRO: Final = """
This page says what each line of relay's log means, and what to do. Search the page for the words of the line.

```sh
journalctl -u relay -p warning          # warnings and errors of the service
journalctl -u relay -o cat | jq -c .    # every line, as JSON
```

relay logs to standard error: JSON for a machine, or text on a terminal ([`[log]`](configuration.md#log)).
A line of JSON has these fields:

- `message`: the words of this page. `...` on this page stands for words that differ.
- `level`: `error`, `warning`, `info` or `debug`. The setting `log.level` hides the lower levels.
- `timestamp`: UTC.
- `connector`, `source`, `filter`, `alert`, `worker`: who the line is about.
- `reason` or `error`: the cause, in words. `advice`: what to do.
- `repeated`: how often the same line was held back since.

relay logs the same warning or error at most once a minute. Lines that differ in reason or client are not the same.
A plugin that does not come with relay logs messages of its own.

Mistakes of the configuration at the start are no lines of the log: relay prints them with file and line, and ends with
exit code 78.

An empty cell in the last column means that there is nothing to do.
"""


def page() -> str:
    """Make the page."""
    return document("Log messages", "relay/log_messages", _parts())


def _parts() -> Iterator[str]:
    yield INTRO
    for room, messages in ROOMS.items():
        yield f"## {room}"
        yield table(["level", "message", "meaning", "what to do"], map(_row, sorted(messages, key=_rank)))


def _rank(message: LogMessage) -> int:
    return LEVELS.index(message.levels.split()[0])


def _row(message: LogMessage) -> tuple[str, ...]:
    gravest, *others = message.levels.split()
    level = f"**{gravest}**" if gravest == "error" else gravest
    return ", ".join([level, *others]), code(message.text), message.meaning, message.action
