"""Options of several commands, and the stores and cohorts that they name."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from relay.api import StoreReader, find_stores
from relay_plugins.braze_cohorts.queries import Cohort, read_cohort

F = TypeVar("F", bound=Callable[..., Any])
TYPE: Final = "braze_cohorts"

CONF: Final = "relay_plugins.braze_cohorts.conf"
"""The key of --conf in a command's context."""


def _keep_conf(ctx: click.Context, param: click.Parameter, conf: Path | None) -> None:
    ctx.meta[CONF] = conf


def state_option(command: F) -> F:
    """Add the options that say where the stores are: --state, passed as `state`, and --conf for `open_store`."""
    state = click.option(
        "--state",
        type=click.Path(file_okay=False, path_type=Path),
        default=lambda: os.environ.get("STATE_DIRECTORY", "/var/lib/relay"),
        help="relay's state folder (default: $STATE_DIRECTORY, or /var/lib/relay).",
    )
    conf = click.option(
        "--conf",
        metavar="DIR",
        type=click.Path(path_type=Path),
        expose_value=False,
        callback=_keep_conf,
        help="The configuration (default: /etc/relay/conf.d).",
    )
    return state(conf(command))


connector_option = click.option("--connector", help="Which braze_cohorts connector, if there are several.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
url_option = click.option("--url", required=True, help="A source of type json of a running relay.")
token_option = click.option("--token-env", default="RELAY_TOKEN", show_default=True, help="Variable with its token.")
yes_option = click.option(
    "--yes", is_flag=True, help="Even if more than half of the known members leave, or nobody knows whether they do."
)
match_option = click.option(
    "--match",
    default="external_id",
    show_default=True,
    help="What the ids are: also device_id, email, alias:LABEL, prefix.",
)
column_option = click.option("--column", metavar="NAME|NUMBER", help="The column, or field, that has the ids.")
header_option = click.option("--header/--no-header", default=None, help="Whether the first line of CSV is a header.")

as_is_option = click.option("--as-is", is_flag=True, help="Take ids that look like what spreadsheets make of ids.")


def form_options(command: F) -> F:
    """Add the options that say how a file is read."""
    return match_option(column_option(header_option(as_is_option(command))))


class NotFound(click.ClickException):
    """A connector without a store."""


def open_store(state: Path, connector: str | None) -> AbstractContextManager[StoreReader]:
    """Open the store of a connector to read; None names the only connector. Raises NotFound, StoreError."""
    stores = find_stores(state, click.get_current_context().meta[CONF])
    found = stores.list_connectors(TYPE)
    if connector is None and len(found) == 1:
        (connector,) = found
    if connector in found:
        return stores.read(TYPE, connector)
    if not found:
        raise NotFound(
            f"{state} has no database of a connector of type {TYPE}, or none that you may read;"
            " name the state folder of relay by --state"
        )
    raise NotFound(
        f"name one of the connectors by --connector: {', '.join(found)}; if a connector does not exist any more,"
        " remove what is kept of it: relay forget NAME"
    )


def find_cohort(store: StoreReader, cohort_id: str) -> Cohort:
    """Return a cohort. Raises ClickException if relay does not know the cohort."""
    if cohort := read_cohort(store, cohort_id):
        return cohort
    raise click.ClickException(f"relay knows no cohort {cohort_id}; relay cohorts list has them all")
