"""Which segment syncs are incomplete: their pages are counted once they are on disk, by number.

A page counts once, also if it comes as two calls: one with those who came, one with those who went. If either comes
again with other users, the next sync has begun, whatever its task. What is known is small and outlasts a restart.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec

SYNCS: Final = 1024
PAGES: Final = 10_000
"""Syncs that are remembered, and pages of one sync and of all of them; the oldest syncs are forgotten first."""
WEEK_S: Final = 7 * 86400.0
"""Seconds after which nobody need hear of an incomplete sync any more."""
CURRENT: Final = 0.0
TOLD: Final = 10
"""Missing pages, and syncs, that are told one by one."""


class Came(NamedTuple):
    """A page that is on disk."""

    segment: str
    task: str
    number: int
    pages: int
    content: dict[str, str]
    """What tells pages with other users apart, for "+" (who came) and "-" (who went) if it has any."""


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
    contents: dict[str, str] = field(default_factory=dict)
    """Of the pages that came, by number and "+" or "-"."""

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
        self._syncs: dict[tuple[str, str, float], Sync] = {}
        """By segment, task and, of those that another one with this task has followed, the time of their last page. The
        one that had a page last comes last."""

    def came(self, page: Came, now: float) -> tuple[Sync | None, list[Sync]]:
        """A page is on disk. Returns its sync if that was told as incomplete and is complete now, and the syncs of the
        segment that are to be told as incomplete, because another one has begun."""
        sync = self._syncs.pop((page.segment, page.task, CURRENT), None)
        content = {f"{page.number}{side}": value for side, value in page.content.items()}
        begun = sync is None or any(sync.contents.get(key, value) != value for key, value in content.items())
        if sync is None or begun:
            self._follow(sync)
            sync = Sync(page.segment, page.task, page.pages, now)
        sync.pages, sync.last = max(sync.pages, page.pages), now
        if 1 < sync.pages <= PAGES:
            sync.came.add(page.number)
            sync.contents |= content
            self._syncs[page.segment, page.task, CURRENT] = sync
            # Forget syncs of a week ago, and the oldest ones if there are too many syncs or pages
            pages = sum([len(one.came) for one in self._syncs.values()])
            while len(self._syncs) > SYNCS or pages > PAGES or next(iter(self._syncs.values())).last < now - WEEK_S:
                pages -= len(self._syncs.pop(next(iter(self._syncs))).came)
        late = self._late(lambda one: one.segment == page.segment and one is not sync) if begun else []
        done = sync.told and sync.is_complete
        sync.told = sync.told and not done
        return (sync if done else None), late

    def _follow(self, before: Sync | None) -> None:
        """Keep a sync that another one with its task follows, if pages of it never came."""
        if before is not None and not before.is_complete:
            self._syncs[before.segment, before.task, before.last] = before

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

    def dump(self) -> str:
        """What is to be remembered."""
        return msgspec.json.encode([*self._syncs.values()]).decode() if self._syncs else ""

    def load(self, text: str) -> None:
        """Remember it. Raises msgspec.MsgspecError."""
        self._syncs = {}
        for one in msgspec.json.decode(text or "[]", type=list[Sync]):
            self._follow(self._syncs.pop((one.segment, one.task, CURRENT), None))
            self._syncs[one.segment, one.task, CURRENT] = one


def told_in_words(syncs: list[Sync]) -> str:
    """One sentence on incomplete syncs; empty if there are none."""
    if not syncs:
        return ""
    oldest = min(one.last for one in syncs)
    since = f"{datetime.fromtimestamp(oldest, UTC):%Y-%m-%dT%H:%M:%SZ}"
    which = "; ".join(map(str, syncs[:3])) + ("; ..." if len(syncs) > 3 else "")
    advice = "have Heap sync the segment again, or push its whole membership (relay cohorts push)"
    return f"{len(syncs)} incomplete segment sync{'s' * (len(syncs) > 1)} since {since}: {which}; {advice}"
