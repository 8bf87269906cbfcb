"""Structured logs on standard error: JSON for machines, colours for a terminal. A connector may own standard output."""

import json
import logging
import os
import sys
import time
from collections.abc import Callable, MutableMapping
from typing import Any, Final

import orjson
import structlog

from relay.config import LOG, LogSettings
from relay.guests import read_text
from relay.logs.journald import add_priority, is_journal
from relay.logs.log_writer import LogWriter
from relay.words import escape, escape_json

QUIET_S: Final = 60.0
VARIANTS: Final = 10
MESSAGES: Final = 10_000
"""Different messages that are remembered. Plugins can log any number."""
ANY_OTHER: Final = object()
"""The common variant of a message that has too many variants."""
KEYS: Final = ("event", "listener", "source", "connector", "filter", "alert", "call", "worker", "status")
FIRST: Final = ("timestamp", "level", "message")
STANDARD_ERROR: Final = 2


class Repeats:
    """Passes the same warning once a minute; the next one says how many were held back.

    Warnings with another reason or client are different, up to VARIANTS of them, because senders can make up any
    number. A line with `always=True` always passes: somebody waits for it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[tuple[object, ...], dict[object, tuple[float, int]]] = {}

    def __call__(self, _: Any, level: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if line.pop("always", False) or level not in ("warning", "error"):
            return line
        now = self._clock()
        if len(self._told) >= MESSAGES:
            self._told.clear()
        told = self._told.setdefault(tuple(_shorten(line.get(name)) for name in KEYS), {})
        variant: object = line.get("client"), _shorten(line.get("reason"))
        if variant not in told and len(told) >= VARIANTS:
            old = next((one for one, (since, _) in told.items() if now - since >= QUIET_S), None)
            if old is None:
                variant = ANY_OTHER
            else:
                del told[old]
        since, held = told.get(variant, (-QUIET_S, 0))
        if now - since < QUIET_S:
            told[variant] = (since, held + 1)
            raise structlog.DropEvent
        told[variant] = (now, 0)
        if held:
            line["repeated"] = held
        return line


def _shorten(value: object) -> object:
    """Return enough of a value to tell it from others."""
    return value if value is None or isinstance(value, int) else read_text(value)


class _Threshold:
    """Drops lines below a level, which may change while relay runs."""

    level = logging.INFO

    def __call__(self, _: Any, method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if getattr(logging, method.upper(), logging.ERROR) < self.level:
            raise structlog.DropEvent
        return line


THRESHOLD: Final = _Threshold()


def set_up_logs(settings: LogSettings, worker: int | None = None) -> None:
    """Send the lines of relay and of libraries to standard error in one format. A worker's lines have its number."""
    fd = STANDARD_ERROR if sys.stderr is None else sys.stderr.fileno()
    repeats: list[Any] = [Repeats()]
    structlog.configure(
        processors=[
            THRESHOLD,
            *repeats,
            *_make_processors(worker),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[LogWriter(fd)], force=True)
    logging.captureWarnings(True)
    change_logs(settings, worker)


def change_logs(settings: LogSettings, worker: int | None = None) -> None:
    """Switch to another level and format from the next line on."""
    THRESHOLD.level = level = logging.getLevelNamesMapping()[settings.level.upper()]
    logging.getLogger().setLevel(level)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LogWriter):
            colors = os.isatty(handler.fd)
            console = settings.format == "console" or (settings.format == "auto" and colors)
            if console:
                render = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)
                last: list[Any] = [structlog.processors.format_exc_info, _hide_secrets, _escape, render]
            else:
                renamer = structlog.processors.EventRenamer("message")  # an event is something else here
                as_json = structlog.processors.JSONRenderer(serializer=_encode_json)
                last = [structlog.processors.format_exc_info, _hide_secrets, renamer, as_json]
            made = structlog.stdlib.ProcessorFormatter(
                foreign_pre_chain=_make_processors(worker),
                processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
            )
            handler.setFormatter(_Prioritized(made) if is_journal(handler.fd) else made)


class _Prioritized(logging.Formatter):
    """Puts the priority of a record before each of its lines, for systemd's journal."""

    def __init__(self, made: logging.Formatter) -> None:
        super().__init__()
        self._made = made

    def format(self, record: logging.LogRecord) -> str:
        return add_priority(self._made.format(record), record.levelname)


def _make_processors(worker: int | None) -> list[Any]:
    """Return the processors of every line, relay's own and libraries'."""
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([] if worker is None else [_Numbered(worker)]),
    ]


def count_dropped_lines() -> int:
    """Return the lines dropped since the start because standard error did not take them."""
    return sum(handler.dropped for handler in logging.getLogger().handlers if isinstance(handler, LogWriter))


class _Numbered:
    """Names the worker in its lines, from any thread."""

    def __init__(self, worker: int) -> None:
        self._worker = worker

    def __call__(self, _: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        line.setdefault("worker", self._worker)
        return line


def _hide_secrets(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Remove secrets from all values, whoever logs them."""
    LOG.clean(line)
    return line


def _escape(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape control characters in all values, so that none commands the terminal."""
    for name, value in line.items():
        text = value if isinstance(value, str) else repr(value)
        if (shown := escape(text)) != text:
            line[name] = shown
    return line


def _encode_json(line: dict[str, Any], default: Any = str, **_: Any) -> str:
    ordered = {name: line[name] for name in FIRST if name in line} | line
    try:
        return escape_json(orjson.dumps(ordered, default=default).decode())
    except TypeError:  # halves of characters, in the name of a file for instance
        return json.dumps(ordered, default=default)
