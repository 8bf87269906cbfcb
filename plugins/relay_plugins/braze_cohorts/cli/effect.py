"""What a whole membership would change, by what Braze was told."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from relay_plugins.braze_cohorts.change import Member, member_of
from relay_plugins.braze_cohorts.queries import members


def counted(number: int, noun: str) -> str:
    """So many of them: "1 user", "1,200 users"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


class Effect(NamedTuple):
    """Who would come and go, and how many are in it now."""

    add: list[Member]
    remove: list[Member]
    known: int

    def __str__(self) -> str:
        return f"+{len(self.add):,} -{len(self.remove):,} of {counted(self.known, 'member')}"

    @property
    def is_drastic(self) -> bool:
        """Whether more than half of the members would leave."""
        return 2 * len(self.remove) > self.known


def effect_of(path: Path, cohort: str, users: Iterable[str], match: str) -> Effect:
    """Compare with what is in the database of a connector. Raises sqlite3.Error."""
    known = {*members(path, cohort)}
    wanted = {member_of(user, match) for user in users}
    return Effect(sorted(wanted - known), sorted(known - wanted), len(known))
