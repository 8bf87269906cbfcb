"""How much an acknowledgement is worth with this PostgreSQL, in words.

relay sees what the server says in SQL: its settings, and the standbys that are connected. It cannot see what replicates
below SQL, such as the storage of a managed database.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from relay.postgres.connection import PostgresConnection
from relay.store import StandbyCounts, Unavailable

UNSAFE: Final = ("fsync", "full_page_writes")
"""Settings of the server without which a crash may destroy acknowledged events."""
BELOW_SQL: Final = "relay cannot see what replicates below SQL, as managed databases do"
RULE: Final = re.compile(r"\s*(?:(FIRST|ANY)\s+)?(\d+)\s*\((.*)\)\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Durability:
    """What a server promises when COMMIT has returned. `str` says it in words."""

    method: str
    """How COMMIT chooses the standbys that it waits for: "FIRST" or "ANY"."""
    count: int
    """The number of standbys that COMMIT waits for."""
    named: Sequence[str]
    """The standbys to choose from, by name; "*": any."""
    standbys: Sequence[str]
    """The standbys that are connected, by name."""

    @property
    def is_stuck(self) -> bool:
        """Whether too few standbys are connected, so that COMMIT does not return."""
        return len(self._candidates) < self.count

    @property
    def counts(self) -> StandbyCounts:
        """How many standbys COMMIT can wait for. "*" names as many as COMMIT waits for."""
        named = self.count if "*" in self.named else len(self.named)
        return StandbyCounts(named, self.count, len(self._candidates))

    @property
    def _candidates(self) -> list[str]:
        """The connected standbys that COMMIT may wait for."""
        names = {name.lower() for name in self.named}
        return [one for one in self.standbys if "*" in names or one.lower() in names]

    def __str__(self) -> str:
        if not self.count:
            more = f"; COMMIT waits for none of its standbys: {', '.join(self.standbys)}" if self.standbys else ""
            return f"on the disk of this database server alone{more}; {BELOW_SQL}"
        others = len(self._candidates) if "*" in self.named else len(self.named)
        rule = f"{self.method} {self.count} of {', '.join(self.named)}"
        said = f"on the disk of {self.count + 1} of {1 + max(others, self.count)} servers ({rule})"
        if self.is_stuck:
            said += (
                f"; COMMIT does not return, as too few of them are connected: {', '.join(self._candidates) or 'none'}"
            )
        return said


def parse_rule(standby_names: str) -> tuple[str, int, list[str]]:
    """Parse the setting `synchronous_standby_names`: the method, the number, and the names of the standbys."""
    found = RULE.fullmatch(standby_names)
    method, count, names = found.groups() if found else (None, "1", standby_names)
    listed = [name for part in names.split(",") if (name := part.strip().strip('"'))]
    return (method or "FIRST").upper(), int(count) if listed else 0, listed


def read_durability(db: PostgresConnection) -> Durability:
    """Read what the server promises. Raises psycopg.Error."""
    names, standbys = db.run("""
        SELECT current_setting('synchronous_standby_names'), ARRAY(
            -- the server hides `state` from roles without pg_read_all_stats
            SELECT application_name FROM pg_stat_replication WHERE coalesce(state, 'streaming') = 'streaming' ORDER BY 1
        )
    """).fetchone() or ("", [])
    return Durability(*parse_rule(names), standbys)


def check_durable(db: PostgresConnection) -> None:
    """Raise Unavailable if a crash of the server may destroy what it has acknowledged. Raises psycopg.Error."""
    off = db.run("SELECT name FROM pg_settings WHERE name = ANY(%s) AND setting = 'off'", [[*UNSAFE]]).fetchall()
    if off:
        found = " and ".join(f"{name} = off" for (name,) in off)
        said = f"the database server has {found}, and a crash may destroy events that were answered 2xx"
        raise Unavailable(
            f"{said}: set {'it' if len(off) == 1 else 'both'} on in postgresql.conf, and reload the server"
        )
