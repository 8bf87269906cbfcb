"""What relay remembers of each source: the tables `source` and `source_memory`."""

from collections.abc import Sequence
from itertools import starmap
from typing import Final

from relay.postgres.connection import PostgresConnection
from relay.store import SOURCE_COLUMNS, SourceLedger, encode_source_ledger, merge_sources, parse_source_ledger

_SAVE: Final = f"""
    INSERT INTO $.source (partition, {SOURCE_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (partition, name) DO UPDATE
    SET ({SOURCE_COLUMNS}) = ({", ".join(f"excluded.{name}" for name in SOURCE_COLUMNS.split(", "))})
"""  # noqa: S608
_SAVE_MEMORY: Final = """
    INSERT INTO $.source_memory VALUES (%s, %s, %s) ON CONFLICT (partition, name) DO UPDATE SET memory = excluded.memory
"""


def read_sources(db: PostgresConnection, partition: int) -> list[SourceLedger]:
    """Read the last saved ledger of every source, by name."""
    query = f"SELECT {SOURCE_COLUMNS} FROM $.source WHERE partition = %s ORDER BY name"  # noqa: S608
    return [*starmap(parse_source_ledger, db.run(query, (partition,)))]


def read_all_sources(db: PostgresConnection) -> list[SourceLedger]:
    """Read the last saved ledger of every source, by name, summed over all processes."""
    rows = db.run(f"SELECT {SOURCE_COLUMNS} FROM $.source")  # noqa: S608
    return merge_sources(starmap(parse_source_ledger, rows))


def save_sources(db: PostgresConnection, partition: int, counted: Sequence[SourceLedger]) -> None:
    """Save the sources' ledgers."""
    db.run_many(_SAVE, [(partition, *encode_source_ledger(one)) for one in counted])


def read_memories(db: PostgresConnection, partition: int) -> dict[str, str]:
    """Read the saved memory of each source."""
    rows = db.run("SELECT name, memory FROM $.source_memory WHERE partition = %s", (partition,))
    return dict(rows.fetchall())


def save_memory(db: PostgresConnection, partition: int, source: str, memory: str) -> None:
    """Save the memory of a source."""
    db.run(_SAVE_MEMORY, (partition, source, memory))
