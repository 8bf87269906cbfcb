"""The group `relay`, its commands, and those that plugins add."""

import signal
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import click

from relay import __version__
from relay.api import Stores
from relay.api.internal import FIND_STORES
from relay.cli import output
from relay.cli.commands.config.check import BAD_CONFIGURATION, report
from relay.commands import COMMANDS
from relay.config import CONF_FOLDERS, ConfigError, Registry, load_journal
from relay.words import describe_error, escape


class _Commands(click.Group):
    """Loads plugins only for a command that is not relay's own, or for all commands.

    Each of relay's own commands is the function of that name in the module that `COMMANDS` names, imported when it is
    used.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args:  # whoever asks for nothing gets the help, and that is no mistake
            click.echo(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        added = [command.name for command in Registry.discover().commands if command.name]
        return sorted({*COMMANDS, *added})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            command: click.Command = getattr(import_module(f"relay.cli.commands.{COMMANDS[cmd_name]}"), cmd_name)
            return command
        return next((command for command in Registry.discover().commands if command.name == cmd_name), None)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            click.echo(escape(report(error.mistakes, error.warnings)), err=True)
            ctx.exit(BAD_CONFIGURATION)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="relay")
@click.pass_context
def relay(ctx: click.Context) -> None:
    """Take Braze Currents events over HTTP, keep them on disk, and fan them out to connectors."""
    ctx.meta[FIND_STORES] = _find_stores


def _find_stores(state: Path, conf: Path | None) -> Stores:
    from relay.engine import view_plugin_stores  # late: few commands of plugins need it

    return view_plugin_stores(state, load_journal([conf] if conf else CONF_FOLDERS))


def main() -> NoReturn:
    """Run the command line and exit: 0, 78 for a bad configuration, 2 for wrong usage, 1 for other failures.

    Output that cannot be written, to a full disk for instance, is such a failure; a pipe that nobody reads is none.
    """
    is_daemon = sys.argv[1:2] == ["run"] and not {"--help", "-h"} & {*sys.argv}
    output.open_missing()
    if is_daemon:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until there is more to end than this
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the configuration is about to be read anyway
    else:  # the log of a daemon has colours of its own
        output.protect()
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
