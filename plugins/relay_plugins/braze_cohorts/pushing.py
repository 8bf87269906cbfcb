"""Whole memberships on their way to a running relay: what the commands that send them have in common."""

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import click

from relay_plugins.braze_cohorts.effect import Effect, known_effect
from relay_plugins.braze_cohorts.files import Form
from relay_plugins.braze_cohorts.membership import events_of, match_of, send
from relay_plugins.braze_cohorts.options import (
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
        """What it would change of the members that the state folder knows; None if it knows none."""
        return known_effect(self.state, self.connector, cohort_id, users, self.form.match)

    def send(self, cohort_id: str, name: str, users: Sequence[str]) -> None:
        """Make these users the whole membership of a cohort. Raises ClickException."""
        events = events_of(cohort_id, name, match_of(self.form.match), users, full=True)
        send(self.ctx, events, self.url, self.token_env)


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
        yes: bool,
        url: str,
        token_env: str,
        state: Path,
        connector: str | None,
        **options: Any,
    ) -> None:
        match_of(match)
        command(pushing=Pushing(ctx, Form(match, column, header), state, connector, yes, url, token_env), **options)

    return wrapped
