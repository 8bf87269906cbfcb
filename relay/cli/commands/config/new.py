"""`relay new`: a plugin of one's own to start from, with its test, as a file or as a package."""

import re
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from keyword import iskeyword
from pathlib import Path
from string import Template
from typing import Final

import click

from relay.cli.options import plugins_option
from relay.config import PLUGIN_FOLDERS, Registry
from relay.words import add_article

CONNECTOR: Final = Template("""\
from relay.api import Batch, BearerToken, Connector, HttpConnectorSettings, HttpUrl


class $Class(Connector, type="$name", batch={"events": 100}):
    \"""Sends the type and the user of each event to a URL.\"""

    class Settings(HttpConnectorSettings):
        url: HttpUrl
        \"""URL that gets the events.\"""
        token: BearerToken
        \"""Token that the destination expects.\"""

    async def deliver(self, batch: Batch) -> None:
        body = {"events": [{"id": event.id, "type": event.type, "user": event.user} for event in batch]}
        headers = {"Authorization": f"Bearer {self.settings.token.reveal()}"}
        async with self.http.post(self.settings.url, json=body, headers=headers, allow_redirects=False) as answer:
            self.check(answer)
""")

CONNECTOR_TEST: Final = Template("""\
from $module import $Class
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

CONNECTOR_TABLE: Final = """\
  [connector.{name}]
  type  = "{name}"
  url   = "https://host.example/events"
  token = {{ credential = "{name}-token" }}"""

SOURCE: Final = Template("""\
import json

from relay.api import Decoded, Request, Secret, Source, SourceSettings, check_hmac


class $Class(Source, type="$name"):
    \"""Takes signed requests, with the type and the id of the event in headers.\"""

    class Settings(SourceSettings):
        secret: Secret
        \"""Secret with which the sender signs.\"""

    def verify(self, request: Request) -> None:
        check_hmac(request.headers.get("X-Signature"), self.settings.secret, request.body, prefix="sha256=")

    def decode(self, request: Request) -> Decoded:
        event = request.json() | {"id": request.header("X-Event-Id")}
        kind = self.kind("$name." + request.header("X-Event-Type"))
        return Decoded([kind], [json.dumps(event).encode()], ids=[event["id"]])
""")

SOURCE_TEST: Final = Template("""\
import hmac

import pytest
from $module import $Class
from relay.api import Denied, Request, Secret


@pytest.fixture
def source(monkeypatch):
    monkeypatch.setenv("SECRET", "s3cret")
    return $Class("mine", $Class.Settings(type="$name", path="/mine", secret=Secret("env", "SECRET")))


def test_it_takes_what_is_signed(source):
    body = b'{"total": 12}'
    signature = "sha256=" + hmac.digest(b"s3cret", body, "sha256").hex()
    source.verify(Request(body, {"X-Signature": signature}))
    with pytest.raises(Denied):
        source.verify(Request(body + b" ", {"X-Signature": signature}))


def test_type_and_id_come_from_the_headers(source):
    decoded = source.decode(Request(b'{"total": 12}', {"X-Event-Id": "7", "X-Event-Type": "order"}))
    assert [kind.type for kind in decoded.kinds] == ["$name.order"]
    assert decoded.bodies == [b'{"total": 12, "id": "7"}']
""")

SOURCE_TABLE: Final = """\
  [source.{name}]
  type   = "{name}"
  path   = "/{name}"
  secret = {{ credential = "{name}-secret" }}"""

FILTER: Final = Template("""\
from relay.api import Event, Filter, FilterSettings


class $Class(Filter, type="$name"):
    \"""Makes an event of each entry of a list in the properties.\"""

    class Settings(FilterSettings):
        field: str = "items"
        \"""Name of the property that holds the list.\"""

    def apply(self, event: Event) -> Event | list[Event] | None:
        items = event.properties.get(self.settings.field)
        if not isinstance(items, list):
            return event
        return [event.with_data({**event.data, "properties": {"item": item}}) for item in items]
""")

FILTER_TEST: Final = Template("""\
from $module import $Class
from relay.testing import filtered, make_event

mine = $Class("mine", $Class.Settings(type="$name"))


def test_it_makes_an_event_per_item():
    parts = filtered(mine, make_event("shop.Order", items=["cup", "plate"]))
    assert [part.properties for part in parts] == [{"item": "cup"}, {"item": "plate"}]
    assert parts[1].id == f"{parts[0].id}-2"


def test_it_keeps_what_has_no_items():
    event = make_event("users.canvas.Entry")
    assert [part.body for part in filtered(mine, event)] == [event]
""")

FILTER_TABLE: Final = """\
  [filter.{name}]
  type  = "{name}"
  field = "items"
and in the table of a connector:
  filters = ["{name}"]"""

ALERT: Final = Template("""\
import json

from relay.api import Alert, AlertSettings, HeaderSecret, HttpUrl, Message


class $Class(Alert, type="$name"):
    \"""Sends each message as JSON to a URL.\"""

    class Settings(AlertSettings):
        url: HttpUrl
        \"""URL that gets the messages.\"""
        key: HeaderSecret
        \"""Key that the URL expects in the header X-Api-Key.\"""

    async def send(self, message: Message) -> None:
        body = {"key": message.id, "summary": message.title, "details": message.text}
        headers = {"Content-Type": "application/json", "X-Api-Key": self.settings.key.reveal()}
        await self.post(self.settings.url, json.dumps(body).encode(), headers)
""")

ALERT_TEST: Final = Template("""\
import json

import pytest
from $module import $Class
from relay.api import Retry, Secret
from relay.testing import Destination, make_message


async def test_it_says_what_is_wrong(monkeypatch):
    monkeypatch.setenv("KEY", "s3cret")
    async with Destination() as destination:
        mine = $Class("mine", $Class.Settings(type="$name", url=destination.url, key=Secret("env", "KEY")))
        await mine.send(make_message())
        destination.behaviour = 503
        with pytest.raises(Retry):
            await mine.send(make_message())
        await mine.release()
    request, _ = destination.requests
    assert json.loads(request.body)["summary"] == "relay on host-1: connector heap: failing"
    assert request.headers["X-Api-Key"] == "s3cret"
""")

ALERT_TABLE: Final = """\
  [alert.{name}]
  type = "{name}"
  url  = "https://host.example/alerts"
  key  = {{ credential = "{name}-key" }}"""

PROJECT: Final = Template("""\
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "$package"
version = "0.1.0"
description = "$Article $kind type for relay: $name."
readme = "README.md"
requires-python = ">=3.11"
dependencies = []                # libraries of the plugin; relay itself is there already

[project.entry-points.relay]
$name = "$module"

[tool.pytest.ini_options]
asyncio_mode = "auto"
asyncio_default_fixture_loop_scope = "function"
pythonpath = ["."]
testpaths = ["tests"]
""")

README: Final = Template("""\
# $package

$Article $kind type `$name` for relay (`currents-relay`).

Install the package into the environment of relay, and restart relay:

    /opt/relay/bin/python -m pip install .
    systemctl restart relay
    relay plugins show $name

Then write into conf.d:

$table

Test the package in an environment with relay, pytest and pytest-asyncio:

    python -m pytest
""")

NEXT: Final = """
Next:
  python -m pytest --asyncio-mode=auto {test}    (pip install pytest pytest-asyncio)
{copy}and in conf.d:
{table}
then:
  systemctl restart relay    since plugins are read at the start"""

NEXT_PACKAGE: Final = """
Next:
  (cd {folder} && python -m pytest)    (pip install pytest pytest-asyncio)
  /opt/relay/bin/python -m pip install {path}
and in conf.d:
{table}
then:
  systemctl restart relay    since plugins are read at the start"""

STARTERS: Final = {
    "connector": (CONNECTOR, CONNECTOR_TEST, CONNECTOR_TABLE),
    "source": (SOURCE, SOURCE_TEST, SOURCE_TABLE),
    "filter": (FILTER, FILTER_TEST, FILTER_TABLE),
    "alert": (ALERT, ALERT_TEST, ALERT_TABLE),
}
"""By the kind of plugin: its code, its test, and its table in conf.d."""


@click.group
def new() -> None:
    """Write the Python code of a plugin to start from, and its test."""


def _add_command(kind: str) -> None:
    """Add the command for one kind of plugin."""

    @new.command(
        name=kind,
        help=f"""Write {add_article(kind)} type NAME and its test into DIR (default: here): NAME.py and test_NAME.py.

        With --package it writes a Python package, the folder relay-NAME with pyproject.toml, README and tests. It
        never overwrites a file.

        Exit codes: 0 written; 1 nothing written.""",
    )
    @click.argument("name")
    @click.argument("folder", metavar="[DIR]", default=Path(), type=click.Path(file_okay=False, path_type=Path))
    @click.option("--package", "as_package", is_flag=True, help="Write a Python package, to install beside relay.")
    @plugins_option
    def write(name: str, folder: Path, as_package: bool, plugin_folders: tuple[Path, ...]) -> None:
        # Refuse a name that is no name of a type and of a module
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or iskeyword(name):
            raise click.BadParameter("a name is made of a-z, 0-9 and _, and starts with a letter", param_hint="NAME")
        if name in Registry.discover(plugin_folders or PLUGIN_FOLDERS).list_names(kind):
            raise click.BadParameter(f"there is {add_article(kind)} type {name} already", param_hint="NAME")
        module = f"relay_{name}" if as_package else name
        if module in sys.stdlib_module_names or find_spec(module):
            raise click.BadParameter(f"there is a Python module {module} already", param_hint="NAME")
        (_write_package if as_package else _write_file)(kind, name, folder)


for _kind in STARTERS:
    _add_command(_kind)


def _write_file(kind: str, name: str, folder: Path) -> None:
    """Write a plugin and its test, and say what comes next. Raises click.ClickException."""
    code, test_code, table = STARTERS[kind]
    plugin, test = folder / f"{name}.py", folder / f"test_{name}.py"
    words = _make_words(name, name)
    _write_files({plugin: code.substitute(words), test: test_code.substitute(words)})
    copy = "" if folder.absolute() in PLUGIN_FOLDERS else f"  cp {plugin} {PLUGIN_FOLDERS[0]}/\n"
    click.echo(NEXT.format(test=test, copy=copy, table=table.format(name=name)))


def _write_package(kind: str, name: str, folder: Path) -> None:
    """Write a package with a plugin, and say what comes next. Raises click.ClickException."""
    code, test_code, raw_table = STARTERS[kind]
    package, module = f"relay-{name.replace('_', '-')}", f"relay_{name}"
    table, words, place = raw_table.format(name=name), _make_words(name, module), folder / package
    words |= {"kind": kind, "package": package, "Article": add_article(kind).partition(" ")[0].capitalize()}
    indented = "\n".join(f"  {line}" for line in table.splitlines())
    _write_files(
        {
            place / "pyproject.toml": PROJECT.substitute(words),
            place / "README.md": README.substitute(words, table=indented),
            place / f"{module}.py": code.substitute(words),
            place / "tests" / f"test_{name}.py": test_code.substitute(words),
        }
    )
    # A name without a slash would be that of a package on PyPI to pip
    click.echo(NEXT_PACKAGE.format(folder=place, path=place.absolute(), table=table))


def _make_words(name: str, module: str) -> dict[str, str]:
    return {"name": name, "module": module, "Class": "".join(map(str.capitalize, name.split("_")))}


def _write_files(texts: Mapping[Path, str]) -> None:
    """Write new files. Raises click.ClickException."""
    if taken := [path for path in texts if path.exists()]:
        raise click.ClickException(f"{taken[0]} exists already")
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            click.echo(f"wrote {path}")
    except OSError as error:
        raise click.ClickException(str(error)) from None
