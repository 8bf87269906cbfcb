"""Structured logs on standard error: JSON for machines, colours on a terminal. Standard output is a connector's."""

import logging
import sys
from typing import Any

import orjson
import structlog

from relay.config import LogSettings


def set_up_logs(settings: LogSettings) -> None:
    """Send relay's own lines and those of the libraries to standard error, in one format."""
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    console = settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(shared, console=console))
    logging.basicConfig(handlers=[handler], level=level, force=True)


def _formatter(shared: list[Any], *, console: bool) -> logging.Formatter:
    if console:
        last: list[Any] = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    else:
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_json)]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )


def _json(line: dict[str, Any], default: Any = str, **_: Any) -> str:
    return orjson.dumps(line, default=default).decode()
