"""`relay run`: the daemon, in the foreground."""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import click
import structlog

from relay import runtime
from relay.cli import output
from relay.cli.options import conf_option, plugins_option, state_option
from relay.config import LOG, PLUGIN_FOLDERS, Config, ConfigError, Registry, find_folders, load, load_again
from relay.engine import open_store
from relay.listen import raise_descriptor_limit
from relay.logs import find_error_prefix, set_up_logs
from relay.stop import STOP
from relay.threads import LeftAlone, leave

STANDARD_OUTPUT: Final = 1
WARNINGS: Final = 20
"""Of a configuration that are logged at the start."""
log = structlog.stdlib.get_logger()


@click.command
@conf_option
@state_option
@plugins_option
@click.option("--worker", hidden=True, help="What the supervisor of several workers tells each of them.")
def run(conf: Path | None, state: Path, plugin_folders: tuple[Path, ...], worker: str | None) -> None:
    """Take events in and deliver them, until SIGTERM or SIGINT.

    Exit codes: 0 stopped; 1 relay cannot start; 78 the configuration has mistakes.
    """
    try:
        _run(conf, state, plugin_folders, worker)
    except ConfigError:
        output.mark_errors(find_error_prefix())
        raise


def _run(conf: Path | None, state: Path, plugin_folders: tuple[Path, ...], worker: str | None) -> None:
    if sys.__stdout__ is None:  # it was closed: nothing is to count as delivered that is written there, by no worker
        os.dup2(os.open(os.devnull, os.O_RDONLY), STANDARD_OUTPUT)
    registry = Registry.discover(plugin_folders or PLUGIN_FOLDERS)
    folders = find_folders(conf, state)
    assigned = None if worker is None else runtime.Worker.read(worker)
    loaded = load(folders, registry) if assigned is None else load_again(assigned.read_texts(), registry)
    for table in ("admin", "journal"):  # what has secrets beside the plugins, which are noted when made
        LOG.note("table", table, getattr(loaded.config, table))
    set_up_logs(loaded.config.log, None if assigned is None else assigned.number)
    raise_descriptor_limit()
    if assigned is None:
        # Log the first warnings of the configuration
        warnings = loaded.warnings
        for warning in warnings[:WARNINGS]:
            log.warning("configuration: %s", warning)
        if len(warnings) > WARNINGS:
            log.warning("configuration: %s more warnings, see relay check", f"{len(warnings) - WARNINGS:,}")
    loop = _make_loop()
    try:
        main = _make_main(
            loaded.config,
            lambda: load(folders, registry).config,
            Path(os.path.realpath(state)),
            assigned,
            lambda: registry.stale,
        )
        runtime.run_main(loop, main)
    except runtime.StartError as error:
        _leave(_report_failure(error, assigned), loop)
    except ConfigError:
        runtime.end_tasks(loop)
        raise
    except Exception as error:
        log.error("relay ends by a bug of its own", exc_info=error)
        _leave(1, loop)
    _leave(0, loop)


def _report_failure(error: runtime.StartError, worker: runtime.Worker | None) -> int:
    """Report why this process cannot start, unless it is to stop anyway; return its exit code."""
    if STOP.has_begun:
        if worker is None:
            log.info("relay stopped during its start", reason=str(error))
        return 0
    if worker is None or not worker.report_failure(str(error)):
        log.error("relay cannot start: %s", error)
    return 1


def _leave(code: int, loop: asyncio.AbstractEventLoop) -> NoReturn:
    leave(code, at_once=not runtime.end_tasks(loop))


def _make_main(
    config: Config,
    read: Callable[[], Config],
    state: Path,
    worker: runtime.Worker | None,
    new_code: Callable[[], Sequence[str]],
) -> Coroutine[Any, Any, None]:
    """Make the work of this process: the whole relay, one worker, or the supervisor of workers. Raises StartError."""
    if worker is not None:
        runtime.follow_parent()
        mine = worker.divide(config)
        return runtime.run(mine, lambda: worker.divide(read()), open_store(state, mine.journal), state, worker)
    store = open_store(state, config.journal)
    try:
        needs_several = runtime.needs_workers(config, store)
    except OSError as error:
        raise runtime.make_folder_error(config, store, error) from error
    if needs_several:
        from relay.workers import supervise  # late: one process does without it

        return supervise(config, read, store, state, new_code)
    return runtime.run(config, read, store, state)


def _make_loop() -> asyncio.AbstractEventLoop:
    """Make an event loop, by uvloop if it is installed (`currents-relay[speed]`)."""
    try:
        import uvloop
    except ImportError:
        loop = asyncio.new_event_loop()
    else:
        loop = uvloop.new_event_loop()
    loop.set_default_executor(LeftAlone())
    return loop
