"""The command `relay cohorts`."""

import click


class Cohorts(click.Group):
    """Imports the commands in it when somebody asks for one: `relay --help` needs the group alone."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        import_commands()
        return super().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of this name; None without any."""
        import_commands()
        return super().get_command(ctx, cmd_name)


def import_commands() -> None:
    """Import the commands, which add themselves to the group."""
    import relay_plugins.braze_cohorts.cli.commands  # noqa: F401


@click.group(cls=Cohorts)
def cohorts() -> None:
    """Show Braze cohorts as relay knows them; send whole memberships."""
