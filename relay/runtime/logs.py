"""Structured logs on standard error: JSON for machines, colours on a terminal. Standard output is a connector's."""

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
from relay.guests import text_of
from relay.runtime.journald import is_journal, prefixed
from relay.runtime.log_writer import LogWriter
from relay.words import escape, escape_json

QUIET_S: Final = 60.0
VARIANTS: Final = 10
MESSAGES: Final = 10_000
"""Different ones that are remembered: plugins may put whatever they like into theirs."""
ANY_OTHER: Final = object()
KEYS: Final = ("event", "listener", "source", "connector", "filter", "alert", "call", "worker", "status")
FIRST: Final = ("timestamp", "level", "message")
STANDARD_ERROR: Final = 2


class Repeats:
    """Lets the same warning through once a minute; the next one says how many were held back in between. Warnings that
    differ in their reason or client are not the same, but no more than VARIANTS of them: senders can make up any
    number. A line with `always=True` is let through: somebody waits for it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[tuple[object, ...], dict[object, tuple[float, int]]] = {}

    def __call__(self, _: Any, level: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if line.pop("always", False) or level not in ("warning", "error"):
            return line
        now = self._clock()
        if len(self._told) >= MESSAGES:
            self._told.clear()
        told = self._told.setdefault(tuple(_start(line.get(name)) for name in KEYS), {})
        variant = _slot(told, (line.get("client"), _start(line.get("reason"))), now)
        since, held = told.get(variant, (-QUIET_S, 0))
        if now - since < QUIET_S:
            told[variant] = (since, held + 1)
            raise structlog.DropEvent
        told[variant] = (now, 0)
        if held:
            line["repeated"] = held
        return line


def _start(value: object) -> object:
    """What tells values apart, whatever they are."""
    return value if value is None or isinstance(value, int) else text_of(value)


def _slot(told: dict[object, tuple[float, int]], variant: object, now: float) -> object:
    """What a warning is counted under: itself or, when there are too many, any other."""
    if variant not in told and len(told) >= VARIANTS:
        old = next((one for one, (since, _) in told.items() if now - since >= QUIET_S), None)
        if old is None:
            return ANY_OTHER
        del told[old]
    return variant


class _Threshold:
    """Drops what is below a level, which may change while relay runs."""

    level = logging.INFO

    def __call__(self, _: Any, method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if getattr(logging, method.upper(), logging.ERROR) < self.level:
            raise structlog.DropEvent
        return line


THRESHOLD: Final = _Threshold()


def set_up_logs(settings: LogSettings, worker: int | None = None) -> None:
    """Send relay's own lines and those of the libraries to standard error, in one format; those of one of several
    workers with its number."""
    fd = STANDARD_ERROR if sys.stderr is None else sys.stderr.fileno()
    repeats: list[Any] = [Repeats()]
    structlog.configure(
        processors=[THRESHOLD, *repeats, *_shared(worker), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[LogWriter(fd)], force=True)
    logging.captureWarnings(True)
    change_logs(settings, worker)


def change_logs(settings: LogSettings, worker: int | None = None) -> None:
    """Go over to another level and format, from the next line on."""
    THRESHOLD.level = level = logging.getLevelNamesMapping()[settings.level.upper()]
    logging.getLogger().setLevel(level)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LogWriter):
            colors = os.isatty(handler.fd)
            console = settings.format == "console" or (settings.format == "auto" and colors)
            made = _formatter(_shared(worker), console=console, colors=colors)
            handler.setFormatter(_Prioritized(made) if is_journal(handler.fd) else made)


class _Prioritized(logging.Formatter):
    """Puts the priority of a record in front of each of its lines, for systemd's journal."""

    def __init__(self, made: logging.Formatter) -> None:
        super().__init__()
        self._made = made

    def format(self, record: logging.LogRecord) -> str:
        return prefixed(self._made.format(record), record.levelname)


def _shared(worker: int | None) -> list[Any]:
    """What is done with every line, relay's own and those of libraries."""
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([] if worker is None else [_Numbered(worker)]),
    ]


def dropped_log_lines() -> int:
    """How many lines were dropped since the start, because standard error did not take them."""
    return sum(handler.dropped for handler in logging.getLogger().handlers if isinstance(handler, LogWriter))


class _Numbered:
    """Names the worker in its lines, whichever thread they come from."""

    def __init__(self, worker: int) -> None:
        self._worker = worker

    def __call__(self, _: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        line.setdefault("worker", self._worker)
        return line


def _formatter(shared: list[Any], *, console: bool, colors: bool) -> logging.Formatter:
    if console:
        render = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)
        last: list[Any] = [structlog.processors.format_exc_info, _without_secrets, _escaped, render]
    else:
        renamer = structlog.processors.EventRenamer("message")  # an event is something else here
        as_json = structlog.processors.JSONRenderer(serializer=_json)
        last = [structlog.processors.format_exc_info, _without_secrets, renamer, as_json]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )


def _without_secrets(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """No value tells a secret, whoever logs it: relay, a plugin, or a library that a plugin uses."""
    LOG.clean(line)
    return line


def _escaped(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """No value commands the terminal, whatever it says."""
    for name, value in line.items():
        text = value if isinstance(value, str) else repr(value)
        if (shown := escape(text)) != text:
            line[name] = shown
    return line


def _json(line: dict[str, Any], default: Any = str, **_: Any) -> str:
    ordered = {name: line[name] for name in FIRST if name in line} | line
    try:
        return escape_json(orjson.dumps(ordered, default=default).decode())
    except TypeError:  # halves of characters, in the name of a file for instance
        return json.dumps(ordered, default=default)
