"""The table of events in PostgreSQL: its columns, and the SQL that makes, fills and empties it. Pure."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from relay.api import Event
from relay_plugins.braze_events import read_user_ids
from relay_plugins.postgres.connector import LONGEST_NAME


class Column(NamedTuple):
    """A column of the table, and how a batch hands over its values."""

    name: str
    definition: str
    array: str
    """Type of the parameter that has the values of all events."""
    value: str = "{}"
    """Expression that makes the value out of an element of the parameter."""


COLUMNS: Final = (
    Column("id", "text PRIMARY KEY", "text[]"),
    Column("type", "text NOT NULL", "text[]"),
    Column("time", "timestamptz", "float8[]", "to_timestamp({})"),
    Column("received", "timestamptz NOT NULL", "float8[]", "to_timestamp({})"),
    Column("source", "text NOT NULL", "text[]"),
    Column("user_id", "text", "text[]"),
    Column("external_user_id", "text", "text[]"),
    Column("device_id", "text", "text[]"),
    Column("event", "jsonb NOT NULL", "text[]", "{}::jsonb"),
)
INDEXES: Final = (
    ("type_time", "(type, time)"),
    ("user_id", "(user_id)"),
    ("external_user_id", "(external_user_id)"),
    ("device_id", "(device_id) WHERE user_id IS NULL AND external_user_id IS NULL"),
)
"""Ends of the names, and what the indexes have. An erasure uses all but the first."""


def _quote(name: str) -> str:
    return ".".join('"{}"'.format(part.replace('"', '""')) for part in name.split("."))


def make_table(name: str) -> str:
    """Return the statements that make the table and its indexes, where they are not there."""
    columns = ",\n".join(f"    {column.name} {column.definition}" for column in COLUMNS)
    lines = [f"CREATE TABLE IF NOT EXISTS {_quote(name)} (\n{columns}\n);"]
    table = name.rpartition(".")[2]
    for end, what in INDEXES:
        own = f"{table.encode()[: LONGEST_NAME - len(end) - 1].decode(errors='ignore')}_{end}"
        lines.append(f"CREATE INDEX IF NOT EXISTS {_quote(own)} ON {_quote(name)} {what};")
    return "\n".join(lines)


def make_insert(name: str) -> str:
    """Return the statement that stores a batch. It has a parameter for each column. A stored id stays as it is."""
    names = ", ".join(column.name for column in COLUMNS)
    values = ", ".join(column.value.format(f"batch.{column.name}") for column in COLUMNS)
    arrays = ", ".join(f"${number}::{column.array}" for number, column in enumerate(COLUMNS, 1))
    return (
        f"INSERT INTO {_quote(name)} ({names}) SELECT {values} FROM unnest({arrays}) AS batch ({names})"  # noqa: S608  names are quoted
        " ON CONFLICT (id) DO NOTHING"
    )


def make_delete(name: str) -> str:
    """Return the statement that erases users. Parameters: user ids, external ids, and device ids, which count for
    events of nobody else."""
    return (
        f"DELETE FROM {_quote(name)} WHERE user_id = ANY($1::text[]) OR external_user_id = ANY($2::text[])"  # noqa: S608
        " OR user_id IS NULL AND external_user_id IS NULL AND device_id = ANY($3::text[])"
    )


def make_rows(events: Sequence[Event]) -> list[Sequence[Any]]:
    """Return the values of each column. Raises UnreadableEvent."""
    rows = [
        (
            event.id,
            event.type,
            event.time,
            event.received,
            event.source,
            *read_user_ids(event),
            event.body.decode(),
        )
        for event in events
    ]
    return list(zip(*rows, strict=True))
