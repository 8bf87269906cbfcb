"""`relay new`: a plugin of one's own to start from, with its test."""

import re
import sys
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
from $name import $Class
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
from $name import $Class
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
from $name import $Class
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

NEXT: Final = """
Next:
  python -m pytest --asyncio-mode=auto {test}    (pip install pytest pytest-asyncio)
{copy}and in conf.d:
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

        Never overwrites a file.

        Exit codes: 0 written; 1 nothing written.""",
    )
    @click.argument("name")
    @click.argument("folder", metavar="[DIR]", default=Path(), type=click.Path(file_okay=False, path_type=Path))
    @plugins_option
    def write(name: str, folder: Path, plugin_folders: tuple[Path, ...]) -> None:
        # Refuse a name that is no name of a type and of a module
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or iskeyword(name):
            raise click.BadParameter("a name is made of a-z, 0-9 and _, and starts with a letter", param_hint="NAME")
        if name in Registry.discover(plugin_folders or PLUGIN_FOLDERS).get_types(kind):
            raise click.BadParameter(f"there is {add_article(kind)} type {name} already", param_hint="NAME")
        if name in sys.stdlib_module_names or find_spec(name):
            raise click.BadParameter(f"there is a Python module {name} already", param_hint="NAME")
        _write_plugin(name, folder, *STARTERS[kind])


for _kind in STARTERS:
    _add_command(_kind)


def _write_plugin(name: str, folder: Path, code: Template, test_code: Template, table: str) -> None:
    """Write a plugin and its test, and say what comes next. Raises click.ClickException."""
    plugin, test = folder / f"{name}.py", folder / f"test_{name}.py"
    if taken := [path for path in (plugin, test) if path.exists()]:
        raise click.ClickException(f"{taken[0]} exists already")
    words = {"name": name, "Class": "".join(map(str.capitalize, name.split("_")))}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, template in ((plugin, code), (test, test_code)):
            path.write_text(template.substitute(words))
            click.echo(f"wrote {path}")
    except OSError as error:
        raise click.ClickException(str(error)) from None
    copy = "" if folder.absolute() in PLUGIN_FOLDERS else f"  cp {plugin} {PLUGIN_FOLDERS[0]}/\n"
    click.echo(NEXT.format(test=test, copy=copy, table=table.format(name=name)))
