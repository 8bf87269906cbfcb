"""Which connector's database the commands look at, and which cohort in it."""

from pathlib import Path

import click

from relay_plugins.braze_cohorts.queries import Cohort, cohorts, databases


class NotFound(click.ClickException):
    """There is no such database."""


def database(state: Path, connector: str | None) -> Path:
    """The database of a connector, which need not be named if it is the only one. Raises NotFound."""
    found = databases(state)
    if connector is None and len(found) == 1:
        return next(iter(found.values()))
    if connector in found:
        return found[connector]
    if not found:
        raise NotFound(
            f"{state} has no database of a connector of type braze_cohorts, or none that you may read;"
            " name the state folder of relay by --state"
        )
    raise NotFound(
        f"name one of the connectors by --connector: {', '.join(found)}; of one that is gone for good"
        f" remove {state}/cohorts/NAME.db*"
    )


def cohort(path: Path, cohort_id: str) -> Cohort:
    """What is known of a cohort. Raises ClickException if that is nothing."""
    for one in cohorts(path):
        if one.id == cohort_id:
            return one
    raise click.ClickException(f"relay knows no cohort {cohort_id}; relay cohorts list has them all")
