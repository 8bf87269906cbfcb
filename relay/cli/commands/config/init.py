"""`relay init`: a configuration to start from, and the systemd unit."""

import shutil
from pathlib import Path
from typing import Final

import click

from relay.cli.commands.doctor.service import WITHIN_REACH, explain_out_of_reach
from relay.cli.commands.doctor.unit import Unit, find_own_command, read_service_settings
from relay.config import CONF_FOLDERS, find_shipped

UNIT: Final = Path("/etc/systemd/system/relay.service")
INSTALLED: Final = Path("/opt/relay/bin/relay")
"""The command as the shipped unit has it."""
MANUAL: Final = "/usr/share/doc/currents-relay/README.md"
"""The documentation as the shipped unit has it."""
NEXT: Final = """
Next:
  {conf}/20-braze.toml    the token that Braze is to send
  {conf}/60-heap.toml     Heap's webhook URL; then take out `enabled`
  {relay} check{option}
  {start}
and in Braze a Custom Currents Export to https://your.host/currents, with that token."""


@click.command
@click.argument("folder", metavar="[DIR]", default=CONF_FOLDERS[0], type=click.Path(file_okay=False, path_type=Path))
@click.option("--unit", "with_unit", is_flag=True, help=f"Write the systemd unit, too: {UNIT}.")
@click.option(
    "--unit-file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="The same, into FILE."
)
def init(folder: Path, with_unit: bool, unit_file: Path | None) -> None:
    """Write a configuration to start from into DIR.

    DIR is /etc/relay/conf.d by default. Every setting is explained in the files. relay writes only into an empty
    folder. With --unit it also writes a systemd unit for this installation. It warns if a unit cannot run this
    installation: one below /home, /root or /tmp.

    Exit codes: 0 written; 1 nothing written.
    """
    unit = unit_file or (UNIT if with_unit else None)
    try:
        if folder.is_dir() and any(folder.iterdir()):
            click.echo(f"left as it is: {folder} has files already")
            configuration = False
        else:
            shutil.copytree(find_shipped("conf.d"), folder, dirs_exist_ok=True)
            for path in sorted(folder.iterdir()):
                click.echo(f"wrote {path}")
            configuration = True
        written = [configuration, *([_write_unit(unit, folder)] if unit else [])]
    except OSError as error:
        raise click.ClickException(str(error)) from None
    if not any(written):
        raise SystemExit(1)
    option = "" if folder in CONF_FOLDERS else f" --conf {folder}"
    by_hand = f"{find_own_command()} run{option} --state DIR    (or as a service: relay init {folder} --unit)"
    start = "systemctl daemon-reload && systemctl enable --now relay" if unit else by_hand
    click.echo(NEXT.format(conf=folder, relay=find_own_command(), option=option, start=start))


def _write_unit(unit: Path, folder: Path) -> bool:
    """Write the unit for this installation of relay and a configuration folder; return whether it was written."""
    text = (find_shipped("systemd") / "relay.service").read_text().replace(MANUAL, str(find_shipped("README.md")))
    if folder not in CONF_FOLDERS:
        text = text.replace(f"{INSTALLED} run", f"{INSTALLED} run --conf {folder.absolute()}")
    try:
        with unit.open("x") as file:
            file.write(text.replace(str(INSTALLED), str(find_own_command())))
    except FileExistsError:
        click.echo(f"left as it is: {unit} exists already")
        return False
    click.echo(f"wrote {unit}")
    service, hint = Unit({}, read_service_settings(text)), "warning: the service cannot start like this"
    if why := explain_out_of_reach(service):
        click.echo(f"{hint}: {why}; {WITHIN_REACH}", err=True)
    if why := service.explain_unreadable(folder.absolute()):
        click.echo(f"{hint}: {folder.absolute()}: {why}; have the configuration in {CONF_FOLDERS[0]}", err=True)
    return True
