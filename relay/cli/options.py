"""Options that several commands share."""

import os
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from relay.api.internal import parse_duration, parse_time
from relay.config import Mistake, TcpAddress, match_entries

F = TypeVar("F", bound=Callable[..., Any])

FOLDER: Final = click.Path(exists=True, file_okay=False, path_type=Path)
CONF: Final = click.Path(path_type=Path)
"""A folder of the configuration. `load` reports a missing one."""


def find_state_folder() -> str:
    """Return the default state folder."""
    return os.environ.get("STATE_DIRECTORY", "/var/lib/relay")


conf_option = click.option("--conf", metavar="DIR", type=CONF, help="The configuration (default: /etc/relay/conf.d).")
plugins_option = click.option(
    "--plugins", "plugin_folders", metavar="DIR", multiple=True, type=FOLDER, help="Look for plugins here."
)
state_option = click.option(
    "--state",
    metavar="DIR",
    type=click.Path(file_okay=False, readable=False, path_type=Path),
    default=find_state_folder,
    help="Journal and database (default: $STATE_DIRECTORY, or /var/lib/relay).",
)


ADMIN_URL: Final = "relay.admin_url"
"""The key of --url in a command's context."""


def _keep_url(ctx: click.Context, param: click.Parameter, url: str | None) -> None:
    """Keep the URL in the context for `relay.cli.client`. A given --state counts before the environment."""
    sources = {name: ctx.get_parameter_source(name) for name in ("url", "state")}
    if url is None or sources == {"url": ParameterSource.ENVIRONMENT, "state": ParameterSource.COMMANDLINE}:
        return
    try:
        parts = urlsplit(url)
        has_place = bool(parts.hostname) and parts.port != 0
        is_address = url.startswith("unix:/") or (parts.scheme in ("http", "https") and has_place)
    except ValueError:  # a port that is no number, for instance
        is_address = False
    if not is_address:
        raise click.BadParameter(f"{url} is neither http://HOST:PORT nor https://HOST nor unix:/PATH", ctx, param)
    from relay.client import TOKEN  # late: many commands ask no relay

    ctx.meta[ADMIN_URL] = url
    if os.environ.get(TOKEN):
        warn_of_plain_http(url, f"${TOKEN}")


def warn_of_plain_http(url: str, token: str) -> None:
    """Warn if others may read a token on its way to a URL. `token`: its name."""
    parts = urlsplit(url)
    if parts.scheme == "http" and not TcpAddress(parts.hostname or "", 0).is_loopback:
        said = f"{token} goes to {parts.hostname} over plain http, where others may read it: use https://"
        click.echo(f"warning: {said}", err=True)


url_option = click.option(
    "--url",
    metavar="URL",
    envvar="RELAY_ADMIN_URL",
    expose_value=False,
    callback=_keep_url,
    help="Ask the relay at this address of admin.listen instead (token: $RELAY_ADMIN_TOKEN).",
)


def relay_options(command: F) -> F:
    """Add the options that select a relay: --state, passed as `state`, and --url."""
    return state_option(url_option(command))


def utf8(value: str) -> str:
    """Convert an option's text to UTF-8. The shell passes any bytes."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise click.BadParameter(f"{value!r} is not UTF-8, and every id and name is") from None
    return value


def complete_entry(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete an entry of a selection, the last of several between commas, with a leading ! or without."""
    from relay.catalogue import NAMES

    before, comma, last = incomplete.rpartition(",")
    sign = "!" if last.startswith("!") else ""
    return [f"{before}{comma}{sign}{name}" for name in NAMES if name.startswith(last.removeprefix("!"))]


def events_option(help: str) -> Callable[[F], F]:
    """Make the option --events, an entry of a selection each time."""
    return click.option(
        "--events", "entries", metavar="SELECTION", type=utf8, multiple=True, shell_complete=complete_entry, help=help
    )


def warn_of_unknown_entries(entries: Sequence[str], list_made: Callable[[], Collection[str]]) -> None:
    """Warn of each entry that matches no known event type, worded as in `relay check`.

    `list_made`: lists the types that sources of relay make."""
    for reason, suggestion in match_entries(entries, list_made):
        if reason:
            click.echo(f"warning: {Mistake(reason=reason, suggestion=suggestion)}", err=True)


def moment_option(name: str, help: str) -> Callable[[F], F]:
    """Make an option that takes a duration back from now, or a time, and passes Unix seconds."""
    return click.option(name, metavar="DURATION|TIME", callback=_moment, help=help)


def _moment(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    with suppress(ValueError):
        return time.time() - parse_duration(value)
    try:
        return parse_time(value)
    except ValueError:
        expected = 'neither a duration such as "2h" nor a time such as 2026-01-31T12:00 (UTC)'
        raise click.BadParameter(f"{value!r} is {expected}", ctx, param) from None
