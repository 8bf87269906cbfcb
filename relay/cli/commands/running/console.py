"""`relay console`: relay in a browser, in a process of its own."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from relay.cli.options import conf_option, plugins_option, state_option
from relay.config import CONF_FOLDERS, PLUGIN_FOLDERS, Address, LogSettings, find_folders, parse_address
from relay.listen import raise_descriptor_limit
from relay.logs import set_up_logs
from relay.threads import leave


def _parse_addresses(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> tuple[Address, ...]:
    try:
        return tuple(map(parse_address, texts))
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


@contextmanager
def name_missing_extra() -> Iterator[None]:
    """Raise click.ClickException, with the command to run, where a package of the console is imported in vain."""
    try:
        yield
    except ModuleNotFoundError as error:
        command = f"{sys.executable} -m pip install 'currents-relay[console]'"
        raise click.ClickException(f"the console needs {error.name}, which is not installed: {command}") from None


@click.command
@click.option(
    "--listen",
    metavar="ADDRESS",
    multiple=True,
    callback=_parse_addresses,
    help="Listen here, whatever console.listen says; repeatable.",
)
@conf_option
@state_option
@plugins_option
@click.option("--launch", is_flag=True, help="Let users change the configuration in --conf DIR.")
def console(
    listen: tuple[Address, ...], conf: Path | None, state: Path, plugin_folders: tuple[Path, ...], launch: bool
) -> None:
    """Show relay in a browser, until SIGTERM or SIGINT.

    The console is a process of its own. It asks the relay that runs with the state folder, and also starts without a
    running relay. [console] of the configuration has its users and its addresses. Without a user, it prints a link on
    the terminal that lets one browser in. It needs the package currents-relay[console].

    The console changes the configuration if console.launch is true. Its files are in conf.d of the state folder; with
    --conf DIR they are in DIR, and --launch does the same as console.launch. The console looks for plugins itself only
    while no relay runs.

    Exit codes: 0 stopped; 1 the console cannot start; 78 [console] has mistakes.
    """
    with name_missing_extra():
        from relay.console import ConsoleError, ConsoleOptions, run_console  # late: no other command needs Jinja2
    if launch and not conf:
        raise click.UsageError(f"--launch takes --conf DIR: else say console.launch = true in {CONF_FOLDERS[0]}")
    set_up_logs(LogSettings())
    raise_descriptor_limit()
    try:
        tell = click.echo if sys.stdout.isatty() else None
        options = ConsoleOptions(
            folders=find_folders(conf, state),
            state=state,
            listen=listen,
            launch=launch,
            plugin_folders=plugin_folders or PLUGIN_FOLDERS,
        )
        run_console(options, tell)
    except ConsoleError as error:
        raise click.ClickException(f"the console cannot start: {error}") from None
    leave(0)
