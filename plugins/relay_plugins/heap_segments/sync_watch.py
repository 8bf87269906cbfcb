"""Which segment syncs are incomplete: their pages are counted once they are on disk, by number.

A page that came twice, with the same users or with others, counts once. What is known is small and outlasts a restart.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import msgspec

SYNCS: Final = 1024
PAGES: Final = 10_000
"""Syncs that are remembered, and pages of one sync and of all of them; the oldest syncs are forgotten first."""
WEEK_S: Final = 7 * 86400.0
"""Seconds after which nobody need hear of an incomplete sync any more."""
TOLD: Final = 10
"""Missing pages, and syncs, that are told one by one."""


@dataclass(slots=True)
class Sync:
    """How much of a sync has come. Times are Unix seconds."""

    segment: str
    task: str
    pages: int
    last: float
    came: set[int] = field(default_factory=set)
    told: bool = False
    """Whether it was told as incomplete."""

    @property
    def is_complete(self) -> bool:
        """Whether it has all its pages."""
        return len(self.came) >= self.pages and not self.missing

    @property
    def missing(self) -> list[int]:
        """The numbers of the pages that have not come. Syncs that number theirs from 0 on are taken as well."""
        first = 0 if 0 in self.came else 1
        return [number for number in range(first, first + self.pages) if number not in self.came]

    def __str__(self) -> str:
        missing = self.missing
        numbers = ", ".join(map(str, missing[:TOLD])) + (", ..." if len(missing) > TOLD else "")
        came = f"{len(self.came)} of {self.pages} pages of sync {self.task[:80]}"
        return f"segment {self.segment[:80]} has {came}, not {numbers}"


class SyncWatch:
    """The syncs of one source."""

    def __init__(self) -> None:
        self._syncs: dict[tuple[str, str], Sync] = {}
        """The one that had a page last comes last."""

    def came(self, segment: str, task: str, page: int, pages: int, now: float) -> tuple[Sync | None, list[Sync]]:
        """A page is on disk. Returns its sync if that was told as incomplete and is complete now, and the syncs of the
        segment that are to be told as incomplete, because another one has begun."""
        begun = (segment, task) not in self._syncs
        sync = self._syncs.pop((segment, task), None) or Sync(segment, task, pages, now)
        sync.pages, sync.last = max(sync.pages, pages), now
        if 1 < sync.pages <= PAGES:
            sync.came.add(page)
            self._syncs[segment, task] = sync
            self._forget(now)
        late = self._late(lambda one: one.segment == segment and one is not sync) if begun else []
        done = sync.told and sync.is_complete
        sync.told = sync.told and not done
        return (sync if done else None), late

    def overdue(self, before: float) -> list[Sync]:
        """The syncs that are to be told as incomplete, because their last page came before that time."""
        return self._late(lambda one: one.last < before)

    def incomplete(self, now: float) -> list[Sync]:
        """The syncs of the last week that were told as incomplete."""
        return [one for one in self._syncs.values() if one.told and one.last > now - WEEK_S]

    def _late(self, which: Callable[[Sync], bool]) -> list[Sync]:
        """Those of the syncs that are incomplete and were not told as that; from now on they were."""
        late = [one for one in self._syncs.values() if not one.told and which(one) and not one.is_complete]
        for one in late:
            one.told = True
        return late

    def _forget(self, now: float) -> None:
        """Forget the oldest syncs if there are too many or their pages are, and those that are a week old."""
        pages = sum([len(one.came) for one in self._syncs.values()])
        while len(self._syncs) > SYNCS or pages > PAGES or next(iter(self._syncs.values())).last < now - WEEK_S:
            pages -= len(self._syncs.pop(next(iter(self._syncs))).came)

    def dump(self) -> str:
        """What is to be remembered."""
        return msgspec.json.encode([*self._syncs.values()]).decode() if self._syncs else ""

    def load(self, text: str) -> None:
        """Remember it. Raises msgspec.MsgspecError."""
        syncs = msgspec.json.decode(text or "[]", type=list[Sync])
        self._syncs = {(one.segment, one.task): one for one in syncs}


def told_in_words(syncs: list[Sync]) -> str:
    """One sentence on incomplete syncs; empty if there are none."""
    if not syncs:
        return ""
    oldest = min(one.last for one in syncs)
    since = f"{datetime.fromtimestamp(oldest, UTC):%Y-%m-%d %H:%M} UTC"
    which = "; ".join(map(str, syncs[:3])) + ("; ..." if len(syncs) > 3 else "")
    advice = "have Heap sync the segment again, or push its whole membership (relay cohorts push)"
    return f"{len(syncs)} incomplete segment sync{'s' * (len(syncs) > 1)} since {since}: {which}; {advice}"
