"""Checks the database of a journal in PostgreSQL. It changes nothing there."""

from collections.abc import Iterator

from relay.cli.commands.doctor.report import Finding, Installation
from relay.engine import observe_database


def check_database(it: Installation) -> Iterator[Finding]:
    """Check server, tables, grants, durability, and what slows the database down."""
    journal = it.config.journal
    if journal.backend == "postgres":
        yield from (Finding(one.level, one.about, one.said, one.advice) for one in observe_database(journal))
