"""docs/reference/database.md: the tables of relay.db, from the comments of their definitions."""

import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Final, NamedTuple

from tests.docs.generate.markdown import code, document, table

SOURCE: Final = "relay/state/schema.sql"
INTRO: Final = """
This page helps you read `relay.db`, the SQLite database in the state folder (`/var/lib/relay`).
Only a relay with the embedded journal has one. With [PostgreSQL](../guide/cluster.md) use the commands of relay.

```sh
sqlite3 -readonly /var/lib/relay/relay.db 'SELECT * FROM ledger'
sqlite3 -readonly /var/lib/relay/relay.db 'SELECT number, connector, cause, reason FROM parked'
```

- **Read, never write.** relay is the only writer. A row that something else changes can lose events.
- **Keep no transaction open.** While a write transaction is open, relay cannot park events, and requests with
  unreadable events are answered 503.
- **What stays.** The view `ledger` and the table `parked` are made to be read. A new version of relay may add columns
  to them, and keeps the columns of this page. All other tables may change with every version.
- **What is in it.** `parked` and `erasure` hold data of users. Only relay's user and root can read the file.
- **Workers.** With several [workers](../guide/workers.md) each worker has a `relay.db` of its own:
  the first one in the state folder, the others in `workers/N`.
- **Other databases.** `stores/NAME.TYPE.db` is the [store](../plugins/connector.md#keep-something) of a connector.
  Its keys and values are the connector's own.

Times are Unix seconds: `datetime(saved, 'unixepoch')` shows them. Offsets are places in the
[journal](../explain/journal-format.md). The commands [`relay audit`](commands.md#relay-audit) and
[`relay parked`](commands.md#relay-parked) show the same in words.
"""
STABLE: Final = ("ledger", "parked")
DEFINITION: Final = re.compile(
    r"^-- (?P<about>.*)\nCREATE (?P<kind>TABLE|VIEW) IF NOT EXISTS (?P<name>\w+)(?P<body>(?:.|\n)*?);$", re.MULTILINE
)
COLUMN: Final = re.compile(
    r"^    (?P<name>[a-z_]+) +(?P<type>[A-Z]+)\b(?P<rest>[^-\n]*?)(?: +-- (?P<about>.*))?$", re.MULTILINE
)
SHOWN: Final = re.compile(r"(?:\bAS (?P<alias>\w+)|^(?:SELECT)? +(?P<name>\w+)),? +-- (?P<about>.*)$", re.MULTILINE)


class Column(NamedTuple):
    """A column with its type, and whether it may be NULL."""

    name: str
    type: str
    about: str


class Table(NamedTuple):
    """A table or view with its columns."""

    name: str
    about: str
    columns: list[Column]


def page() -> str:
    """Make the page."""
    return document("Database", SOURCE, _parts())


def schema() -> str:
    """Read the definitions of all tables."""
    return files("relay.state").joinpath("schema.sql").read_text("utf-8")


def tables(sql: str) -> list[Table]:
    """Read the tables and views of a schema. Raises LookupError for a table or a column without a comment."""
    found = [
        Table(one["name"], one["about"], [*(_columns if one["kind"] == "TABLE" else _shown)(one["name"], one["body"])])
        for one in DEFINITION.finditer(sql)
    ]
    for name in re.findall(r"^CREATE (?:TABLE|VIEW) IF NOT EXISTS (\w+)", sql, re.MULTILINE):
        if name not in [one.name for one in found]:
            raise LookupError(f"{SOURCE}: {name} has no comment above it")
    return found


def _columns(name: str, body: str) -> Iterator[Column]:
    for one in COLUMN.finditer(body):
        if not one["about"]:
            raise LookupError(f"{SOURCE}: {name}.{one['name']} has no comment")
        nullable = "" if "NOT NULL" in one["rest"] or "PRIMARY KEY" in one["rest"] else " or NULL"
        yield Column(one["name"], f"{one['type']}{nullable}", one["about"])


def _shown(name: str, body: str) -> Iterator[Column]:
    for one in SHOWN.finditer(body):
        yield Column(one["alias"] or one["name"], "", one["about"])


def _parts() -> Iterator[str]:
    yield INTRO
    found = {one.name: one for one in tables(schema())}
    yield "## Made to be read"
    for name in STABLE:
        yield from _section(found.pop(name))
    yield "## Tables of relay alone"
    yield "These tables may change with every version."
    for one in found.values():
        yield from _section(one)


def _section(one: Table) -> Iterator[str]:
    yield f"### {one.name}"
    yield one.about
    typed = any(column.type for column in one.columns)
    head = ["column", *(["type"] if typed else []), "meaning"]
    yield table(head, [[code(name), *([kind] if typed else []), about] for name, kind, about in one.columns])
