"""Whole memberships on their way to a running relay: what the commands that send them have in common."""

import sqlite3
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import click

from relay_plugins.braze_cohorts.cli.choice import NotFound, database
from relay_plugins.braze_cohorts.cli.effect import Effect, effect_of
from relay_plugins.braze_cohorts.cli.files import Form
from relay_plugins.braze_cohorts.cli.membership import events_of, match_of, send
from relay_plugins.braze_cohorts.cli.options import (
    connector_option,
    form_options,
    state_option,
    token_option,
    url_option,
    yes_option,
)


class Pushing(NamedTuple):
    """How files are pushed."""

    ctx: click.Context
    form: Form
    state: Path
    connector: str | None
    drastic: bool
    """Even if more than half of the known members would leave."""
    url: str
    token_env: str

    def effect(self, cohort_id: str, users: Sequence[str]) -> Effect | None:
        """What it would change of the members that the state folder knows; None if nobody can tell, and need not.

        Raises ClickException, `NotFound` if there is no database."""
        try:
            return effect_of(database(self.state, self.connector), cohort_id, users, self.form.match)
        except NotFound as error:
            if self.drastic:
                return None
            raise NotFound(f"{error.message}. Or push without a comparison by --yes") from None
        except sqlite3.Error as error:
            raise click.ClickException(f"who is in the cohort cannot be read from {self.state}: {error}") from None

    def send(self, cohort_id: str, name: str, users: Sequence[str]) -> None:
        """Make these users the whole membership of a cohort. Raises ClickException."""
        events = events_of(cohort_id, name, match_of(self.form.match), users, full=True)
        send(self.ctx, events, self.url, self.token_env)


def confirmed(question: str) -> None:
    """Return if an admin says yes. Raises Abort, and ClickException where there is nobody to say anything."""
    try:
        answer = click.confirm(question, err=True)
    except click.Abort:
        raise click.ClickException("not confirmed: nobody answers; --yes does it without asking") from None
    if not answer:
        raise click.Abort


def pushing_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options, and hand on what they say as `pushing`."""

    @form_options
    @yes_option
    @url_option
    @token_option
    @state_option
    @connector_option
    @click.pass_context
    @wraps(command)
    def wrapped(
        ctx: click.Context,
        /,
        *,
        match: str,
        column: str | None,
        header: bool | None,
        as_is: bool,
        yes: bool,
        url: str,
        token_env: str,
        state: Path,
        connector: str | None,
        **options: Any,
    ) -> None:
        match_of(match)
        form = Form(match, column, header, as_is)
        command(pushing=Pushing(ctx, form, state, connector, yes, url, token_env), **options)

    return wrapped
