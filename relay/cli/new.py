"""`relay new connector`: a connector of one's own to start from, with its test."""

import re
import sys
from importlib.util import find_spec
from keyword import iskeyword
from pathlib import Path
from string import Template
from typing import Final

import click

from relay.config import Registry

CONNECTOR: Final = Template("""\
from relay.api import Batch, Connector, ConnectorSettings, HttpUrl, Secret, check


class $Class(Connector, type="$name"):
    class Settings(ConnectorSettings):
        url: HttpUrl
        token: Secret

    async def deliver(self, batch: Batch) -> None:
        body = {"events": [{"type": event.type, "user": event.user} for event in batch]}
        headers = {"Authorization": f"Bearer {self.settings.token.reveal()}"}
        async with self.http.post(self.settings.url, json=body, headers=headers) as answer:
            check(answer)
""")

TEST: Final = Template("""\
from $name import $Class
from relay.api import Secret
from relay.testing import ConnectorSuite, Destination, make_batch, make_event


class Test$Class(ConnectorSuite):
    def make(self, url, token, folder):
        return $Class("mine", $Class.Settings(type="$name", url=url, token=token), folder=folder)


async def test_it_sends_what_happened(tmp_path, monkeypatch):
    monkeypatch.setenv("TOKEN", "s3cret")
    async with Destination() as destination:
        connector = Test$Class().make(destination.url, Secret("env", "TOKEN"), tmp_path)
        await connector.deliver(make_batch([make_event("users.canvas.Entry")]))
        await connector.release()
    (request,) = destination.requests
    assert b'"type": "users.canvas.Entry"' in request.body
    assert request.headers["Authorization"] == "Bearer s3cret"
""")

NEXT: Final = """
Next:
  pytest --asyncio-mode=auto {test}    (pip install pytest pytest-asyncio)
  cp {plugin} /etc/relay/plugins/
and in conf.d:
  [connector.{name}]
  type  = "{name}"
  url   = "https://..."
  token = {{ credential = "{name}-token" }}"""


@click.group
def new() -> None:
    """Write the Python code of a plugin to start from."""


@new.command
@click.argument("name")
@click.argument("folder", metavar="[DIR]", default=Path(), type=click.Path(file_okay=False, path_type=Path))
def connector(name: str, folder: Path) -> None:
    """Write a connector type NAME and its test into DIR (default: here): NAME.py and test_NAME.py.

    Never overwrites anything. Exits with 1 if nothing was written.
    """
    _check_name(name)
    plugin, test = folder / f"{name}.py", folder / f"test_{name}.py"
    if taken := [path for path in (plugin, test) if path.exists()]:
        raise click.ClickException(f"{taken[0]} exists already")
    words = {"name": name, "Class": "".join(map(str.capitalize, name.split("_")))}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, template in ((plugin, CONNECTOR), (test, TEST)):
            path.write_text(template.substitute(words))
            click.echo(f"wrote {path}")
    except OSError as error:
        raise click.ClickException(str(error)) from None
    click.echo(NEXT.format(name=name, plugin=plugin, test=test))


def _check_name(name: str) -> None:
    """Refuse what cannot be the name of a type and of a module. Raises click.BadParameter."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or iskeyword(name):
        raise click.BadParameter("a name is made of a-z, 0-9 and _, and starts with a letter", param_hint="NAME")
    if Registry.discover().connector(name):
        raise click.BadParameter(f"there is a connector type {name} already", param_hint="NAME")
    if name in sys.stdlib_module_names or find_spec(name):
        raise click.BadParameter(f"there is a Python module {name} already", param_hint="NAME")
