"""The group `relay`, its commands, and those that plugins add.

This module imports little, and each function the rest that it needs: imports take most of the time of a command.
"""

import gc
import os
import signal
import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from relay import __version__
from relay.cli import output
from relay.cli.added import find_added
from relay.commands import ALIASES, COMMANDS
from relay.words import describe_error, escape

if TYPE_CHECKING:
    from relay.api import Stores

OBJECTS_PER_COLLECTION: Final = 10_000
"""New objects until the garbage collector runs. Imports and requests leave hardly any cycles."""
STANDARD_ERROR: Final = 2
WRITE_S: Final = 1.0
"""Seconds that the last line waits for whoever reads standard error."""
ONE_LINE: Final = 66
"""Characters of the summary of a plugin's command."""


class _Commands(click.Group):
    """Imports one of relay's own commands when it is used: the function of its name in its module. Loads plugins only
    for a command that is not relay's own, or for all commands.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args:  # whoever asks for nothing gets the help, and that is no mistake
            click.echo(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        lines = {command.name or "": command.get_short_help_str(ONE_LINE) for command in find_added()}
        lines |= {name: own.summary for name, own in COMMANDS.items()}
        with formatter.section("Commands"):
            formatter.write_dl(sorted(lines.items()))

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*COMMANDS, *(command.name for command in find_added() if command.name)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in ALIASES:
            group, inner = ALIASES[cmd_name]
            found = self.get_command(ctx, group)
            return found.get_command(ctx, inner) if isinstance(found, click.Group) else None
        if own := COMMANDS.get(cmd_name):
            command: click.Command = getattr(import_module(f"relay.cli.commands.{own.module}"), cmd_name)
            return command
        return next((command for command in find_added() if command.name == cmd_name), None)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except Exception as error:
            from relay.cli.commands.config.check import BAD_CONFIGURATION, report
            from relay.client import ClientError
            from relay.config import ConfigError

            if isinstance(error, ClientError):
                raise click.ClickException(str(error)) from None
            if not isinstance(error, ConfigError):
                raise
            click.echo(escape(report(error.mistakes, error.warnings)), err=True)
            ctx.exit(BAD_CONFIGURATION)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="relay")
@click.pass_context
def relay(ctx: click.Context) -> None:
    """Take Braze Currents events over HTTP, keep them on disk, and fan them out to connectors."""
    from relay.api.internal import FIND_STORES

    ctx.meta[FIND_STORES] = _find_stores


def _find_stores(state: Path, conf: Path | None) -> "Stores":
    from relay.config import find_folders, load_journal
    from relay.engine import view_plugin_stores

    return view_plugin_stores(state, load_journal(find_folders(conf, state)))


def _import_structlog() -> None:
    """Import structlog without rich, which structlog imports wherever it is installed, for tracebacks in colours: relay
    writes plain ones. Plugins can still import rich."""
    absent: Any = None
    if sys.modules.setdefault("rich", absent) is None:
        import structlog  # noqa: F401

        del sys.modules["rich"]


def _end_at_once(*_: object) -> NoReturn:
    """End the process with exit code 0, and with a line like those of the log, which may not be set up yet. An
    exception here would look like one of the code that the signal meets, such as a plugin's."""
    import logging
    import select

    logging.shutdown()  # writes what waits
    said = "relay stopped during its start"
    if not os.isatty(STANDARD_ERROR):
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        said = f'{{"timestamp":"{now}","level":"info","message":"{said}"}}'
    with suppress(OSError):
        if "--worker" not in sys.argv and select.select([], [STANDARD_ERROR], [], WRITE_S)[1]:
            os.write(STANDARD_ERROR, f"{said}\n".encode())
    os._exit(0)


def main() -> NoReturn:
    """Run the command line and exit: 0, 78 for a bad configuration, 2 for wrong usage, 1 for other failures.

    Output that cannot be written, to a full disk for instance, is such a failure; a pipe that nobody reads is none.
    """
    gc.set_threshold(OBJECTS_PER_COLLECTION)
    is_daemon = sys.argv[1:2] == ["run"] and not {"--help", "-h"} & {*sys.argv}
    output.open_missing()
    if is_daemon or sys.argv[1:2] == ["console"]:
        _import_structlog()
    if is_daemon:
        gc.disable()  # the start makes little garbage; `freeze_objects` enables the collector again
        from relay.api.internal import import_aiohttp

        import_aiohttp()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _end_at_once)  # until there is more to end than this
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the configuration is about to be read anyway
    else:  # the log of a daemon has colours of its own
        output.protect()
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # from now on Ctrl-C ends a command in order
            signal.signal(signal.SIGINT, signal.default_int_handler)
    code: object = 0
    failure: OSError | None = None
    try:
        relay()
    except SystemExit as ended:
        code = ended.code
    except OSError as error:
        failure = error
    if failure := output.finish() or failure:
        with suppress(OSError):
            click.echo(f"Error: {describe_error(failure)}", err=True)
        code = 1
    sys.exit(code)  # type: ignore[arg-type]
