"""`relay run`: the daemon, in the foreground."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import click
import structlog

from relay import runtime
from relay.cli.options import conf_option, plugins_option, state_option
from relay.config import CONF_FOLDERS, PLUGIN_FOLDERS, Config, Registry, load

log = structlog.stdlib.get_logger()


@click.command
@conf_option
@state_option
@plugins_option
@click.option("--worker", hidden=True, help="What the supervisor of several workers tells each of them.")
@click.pass_context
def run(
    ctx: click.Context, conf: Path | None, state: Path, plugin_folders: tuple[Path, ...], worker: str | None
) -> None:
    """Take events in and deliver them, until SIGTERM or SIGINT.

    Exits with 0 after a stop, 78 if the configuration is wrong, 1 if relay cannot start.
    """
    registry = Registry.discover(plugin_folders or PLUGIN_FOLDERS)
    folders = [conf] if conf else CONF_FOLDERS
    loaded = load(folders, registry)
    told = None if worker is None else runtime.Worker.read(worker)
    runtime.set_up_logs(loaded.config.log, None if told is None else told.number)
    for warning in () if told else loaded.warnings:
        log.warning("configuration: %s", warning)
    try:
        _run(loaded.config, lambda: load(folders, registry).config, state.resolve(), told)
    except runtime.StartError as error:
        click.echo(f"relay cannot start: {error}", err=True)
        ctx.exit(1)


def _run(config: Config, read: Callable[[], Config], state: Path, worker: runtime.Worker | None) -> None:
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        if worker is not None:
            runtime.follow_parent()
            runner.run(runtime.run(worker.share(config), lambda: worker.share(read()), state, worker))
        elif runtime.is_needed(config, state):
            runner.run(runtime.supervise(config, read, state))
        else:
            runner.run(runtime.run(config, read, state))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed (`currents-relay[speed]`)."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
