"""`relay postgres`: makes the table that a connector of the type `postgres` fills."""

from pathlib import Path
from typing import Final

import click

NO_SCHEMA: Final = "3F000"
"""SQLSTATE of a schema that is not there (PostgreSQL docs, Appendix A)."""


def _check_table(ctx: click.Context, param: click.Parameter, name: str) -> str:
    from relay_plugins.postgres.connector import check_name  # late, for `relay --help` needs none of relay.api

    try:
        return check_name(name)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.group
def postgres() -> None:
    """Make the table of a connector of type postgres."""


@postgres.command
@click.option("--table", default="events", show_default=True, callback=_check_table, help="Name, also schema.name.")
@click.option(
    "--dsn-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the URL of the database, such as the credential of the connector.",
)
@click.option("--print", "only_print", is_flag=True, help="Print the SQL, and connect to nothing.")
def create(table: str, dsn_file: Path | None, only_print: bool) -> None:
    """Make the table and its indexes, where they are not there yet.

    Exit codes: 0 made or printed; 1 the database refuses, or is not there.
    """
    import asyncio

    from relay_plugins.postgres.table import make_table

    statements = make_table(table)
    if only_print:
        return click.echo(statements)
    if dsn_file is None:
        raise click.UsageError("name the database by --dsn-file, or print the SQL by --print")
    try:
        asyncio.run(_run(dsn_file.read_text().strip(), statements))
    except ModuleNotFoundError:
        raise click.ClickException("needs asyncpg: pip install 'currents-relay[postgres]'") from None
    except Exception as error:
        cure = "; make the schema first: CREATE SCHEMA" if getattr(error, "sqlstate", "") == NO_SCHEMA else ""
        raise click.ClickException(f"the table {table} is not made: {error}{cure}") from None
    return click.echo(f"the table {table} is there")


async def _run(dsn: str, statements: str) -> None:
    import asyncpg

    database = await asyncpg.connect(dsn, timeout=10)
    try:
        async with database.transaction():
            await database.execute(statements)
    finally:
        await database.close()
