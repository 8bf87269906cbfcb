"""`relay add`: writes a table of conf.d from options, checked before it is there."""

import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import click
from msgspec.structs import replace

from relay.api import Plugin, SourceSettings
from relay.cli.commands.config.check import report
from relay.cli.commands.config.setting_options import make_options, read_settings
from relay.cli.options import CONF, find_state_folder, plugins_option
from relay.config import (
    CONF_FOLDERS,
    FILE_PREFIXES,
    NAME,
    PLUGIN_FOLDERS,
    Mistake,
    Registry,
    find_folders,
    load,
    name_file,
    type_description,
)
from relay.guests import contained, name_error
from relay.words import add_article, format_toml_table

CREDENTIALS: Final = Path("/etc/relay/credentials")


class _Kinds(click.Group):
    """Offer a group for each kind of table, with a command for each type of the plugins."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*FILE_PREFIXES]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in FILE_PREFIXES:
            return None
        folders = ctx.params.get("plugin_folders") or ()
        registry = Registry.discover(folders or PLUGIN_FOLDERS)
        commands = {name: _make_command(cmd_name, name, registry, folders) for name in registry.get_types(cmd_name)}
        about = f"Write {add_article(cmd_name)} of a TYPE into conf.d. The settings of the type are the options."
        return click.Group(cmd_name, commands=commands, help=about, subcommand_metavar="TYPE [OPTIONS]")


@click.group(cls=_Kinds)
@plugins_option
def add(plugin_folders: tuple[Path, ...]) -> None:
    """Write a source, connector, filter or alert into conf.d.

    The options of a type are its settings. relay checks the whole configuration with the new table first. It writes
    nothing if there is a mistake, and never overwrites a file.

    Exit codes: 0 written; 1 not written; 78 the configuration has mistakes, and nothing is written.
    """


def _make_command(kind: str, name: str, registry: Registry, plugin_folders: Sequence[Path]) -> click.Command:
    """Make the command that adds a table of one type. If the plugin's settings make no options, the command says so."""
    try:
        with contained(until_ctrl_c=True):
            return _make_add_command(kind, registry.get_types(kind)[name], registry, plugin_folders)
    except Exception as error:
        reason = f"{registry.find_provider(kind, name)}: its settings cannot be options: {name_error(error)}"

    def refuse() -> None:
        raise click.ClickException(reason)

    return click.Command(name, callback=refuse, help=f"Cannot be used. {reason}", add_help_option=False)


def _make_add_command(
    kind: str, plugin: type[Plugin], registry: Registry, plugin_folders: Sequence[Path]
) -> click.Command:

    def write(name: str, conf: Path, *, disabled: bool = False, make_token: bool = False, **given: Any) -> None:
        settings = read_settings(plugin.Settings, given)
        if kind == "source":
            settings = {"path": f"/{name}", **settings}
        if make_token:
            settings.setdefault("tokens", [{"credential": f"{name}-token"}])
        table = {"type": plugin.type, **({"enabled": False} if disabled else {}), **settings}
        token = _make_token(settings["tokens"][-1]) if make_token else None
        try:
            path, warnings = _write_table(kind, name, table, conf, registry)
        except BaseException:
            if token:
                token.unlink()
            raise
        click.echo(f"wrote {path}" + (f"\nwrote {token}: the token, for the sender" if token else ""))
        if warnings:
            click.echo(report((), warnings), err=True)
        click.echo("\n".join(["", "Next:", *_list_next_steps(kind, table, conf, plugin_folders, token)]))

    described = type_description(plugin).partition("\n\n")[0]
    return click.Command(
        plugin.type,
        callback=write,
        params=[*_make_place_options(kind, plugin), *make_options(plugin.Settings)],
        help=described or f"Write {add_article(kind)} of the type {plugin.type} into conf.d.",
    )


def _make_place_options(kind: str, plugin: type[Plugin]) -> Iterator[click.Option]:
    """Make the options that are no settings."""
    yield click.Option(
        ["--name"], callback=_check_name, default=plugin.type, show_default=True, help=f"The name of the {kind}."
    )
    conf = CONF_FOLDERS[0]
    yield click.Option(["--conf"], metavar="DIR", type=CONF, default=conf, show_default=True, help="Where to write it.")
    if issubclass(plugin.Settings, SourceSettings):
        about = (
            "Also write a random token to the place in --token-from. A credential is a file in"
            f" {CREDENTIALS}. The default is the credential NAME-token."
        )
        yield click.Option(["--make-token"], is_flag=True, help=about)


def _check_name(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if not re.fullmatch(NAME, value):
        raise click.BadParameter("a name is made of a-z, 0-9, _ and -, and starts with a letter", ctx, param)
    return value


def _write_table(
    kind: str, name: str, table: Mapping[str, Any], conf: Path, registry: Registry
) -> tuple[Path, list[Mistake]]:
    """Check the configuration with the table in it, then write its file. Return its path and the warnings about it.

    Raises ConfigError if the configuration has mistakes with it, click.ClickException if the file cannot be written.
    """
    path = conf / name_file(kind, name)
    if path.exists():
        raise click.ClickException(f"{path} exists already: choose another --name, or edit that file")
    text = format_toml_table((kind, name), table)
    with TemporaryDirectory(prefix="relay-add-") as beside:
        (Path(beside) / path.name).write_text(text, "utf-8")
        folders = find_folders(None if conf == CONF_FOLDERS[0] else conf, Path(find_state_folder()))
        with_it = replace(folders, others=[Path(beside), *folders.others])
        loaded = load(with_it, registry, secrets_required=False)
    try:
        conf.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}") from None
    return path, [warning for warning in loaded.warnings if warning.file == path.name]


def _make_token(reference: Mapping[str, str]) -> Path:
    """Write a new random token where a reference says. Raises click.ClickException if that is not possible."""
    ((way, name),) = reference.items()
    if way == "env":
        raise click.UsageError("--make-token writes a file: --token-from credential:NAME or file:/PATH")
    path = CREDENTIALS / name if way == "credential" else Path(name)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(0o600, exist_ok=False)
        path.write_text(secrets.token_urlsafe(32) + "\n")
    except FileExistsError:
        raise click.ClickException(f"{path} exists already: leave --make-token out to use the token in it") from None
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}") from None
    return path


def _list_next_steps(
    kind: str, table: Mapping[str, Any], conf: Path, plugin_folders: Sequence[Path], token: Path | None
) -> Iterator[str]:
    """Yield what is left to do, a line each."""
    plugins = "".join(f" --plugins {folder}" for folder in plugin_folders)
    if names := [*_list_credentials(table)]:
        yield "  systemctl edit relay    with [Service] and, for each secret, a line"
        yield from (f"    LoadCredential={name}:{CREDENTIALS / name}" for name in names)
        yield "  systemctl restart relay    since credentials are read at the start"
    option = "" if conf == CONF_FOLDERS[0] else f" --conf {conf}"
    yield f"  relay check{plugins}{option}"
    if plugins:
        yield f"  restart relay with{plugins}    since plugins are read at the start"
    elif not names:
        yield "  relay reload"
    if kind == "source":
        yield f"  the sender posts to https://your.host{table['path']}" + (
            f", with the token in {token}" if token else ""
        )


def _list_credentials(value: object) -> Iterator[str]:
    """Yield the names of the systemd credentials in a table."""
    if isinstance(value, dict):
        if [*value] == ["credential"]:
            yield value["credential"]
        for inner in value.values():
            yield from _list_credentials(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _list_credentials(inner)
