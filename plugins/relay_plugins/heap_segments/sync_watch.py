"""Finds incomplete segment syncs by the numbers of the pages that are on disk.

A page counts once, even if it comes in two calls: a call with added users and a call with removed users. If either
comes again with other users, the next sync has begun, whatever its task. The memory is small and outlasts a restart.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec

SYNCS: Final = 1024
PAGES: Final = 10_000
"""Most syncs in memory, and most pages of one sync and of all syncs. The oldest syncs are forgotten first."""
WEEK_S: Final = 7 * 86400.0
"""Seconds after which an incomplete sync is forgotten."""
CURRENT: Final = 0.0
PAGES_SHOWN: Final = 10
"""Most missing pages that a message lists."""
SYNCS_SHOWN: Final = 3
"""Most syncs that a notice lists."""


class SavedPage(NamedTuple):
    """A page that is on disk."""

    segment: str
    task: str
    number: int
    pages: int
    content: dict[str, str]
    """Checksum of the page's users, under "+" if the page adds users and under "-" if it removes users."""


@dataclass(slots=True)
class Sync:
    """The pages of a sync that are on disk. Times are Unix seconds. `SyncWatch.dump` saves the fields by name."""

    segment: str
    task: str
    pages: int
    last: float
    came: set[int] = field(default_factory=set)
    told: bool = False
    """Whether the sync was reported as incomplete."""
    contents: dict[str, str] = field(default_factory=dict)
    """Checksums of the pages in `came`, by number and "+" or "-"."""

    @property
    def is_complete(self) -> bool:
        """Whether all pages are on disk."""
        return len(self.came) >= self.pages and not self.missing

    @property
    def missing(self) -> list[int]:
        """Numbers of the missing pages. A sync may number its pages from 0 or from 1."""
        first = 0 if 0 in self.came else 1
        return [number for number in range(first, first + self.pages) if number not in self.came]

    def __str__(self) -> str:
        missing = self.missing
        numbers = ", ".join(map(str, missing[:PAGES_SHOWN])) + (", ..." if len(missing) > PAGES_SHOWN else "")
        came = f"{len(self.came)} of {self.pages} pages of sync {self.task[:80]}"
        return f"segment {self.segment[:80]} has {came}, not {numbers}"


class SyncWatch:
    """Keeps the syncs of one source until they are complete or old."""

    def __init__(self) -> None:
        self._syncs: dict[tuple[str, str, float], Sync] = {}
        """Syncs by segment, task and CURRENT. An incomplete sync has the time of its last page instead of CURRENT, once
        another sync with its task has begun. The sync with the newest page is last."""

    def record(self, page: SavedPage, now: float) -> tuple[Sync | None, list[Sync]]:
        """Record a page that is on disk. Return its sync if the page completes a sync that was reported as incomplete.
        Also return the incomplete syncs of the segment to report, because another sync has begun."""
        sync = self._syncs.pop((page.segment, page.task, CURRENT), None)
        content = {f"{page.number}{side}": value for side, value in page.content.items()}
        begun = sync is None or any(sync.contents.get(key, value) != value for key, value in content.items())
        if sync is None or begun:
            self._keep_incomplete(sync)
            sync = Sync(page.segment, page.task, page.pages, now)
        sync.pages, sync.last = max(sync.pages, page.pages), now
        if 1 < sync.pages <= PAGES:
            sync.came.add(page.number)
            sync.contents |= content
            self._syncs[page.segment, page.task, CURRENT] = sync
            # Forget syncs of a week ago, and the oldest ones if there are too many syncs or pages
            pages = sum([len(kept.came) for kept in self._syncs.values()])
            while len(self._syncs) > SYNCS or pages > PAGES or next(iter(self._syncs.values())).last < now - WEEK_S:
                pages -= len(self._syncs.pop(next(iter(self._syncs))).came)
        late = self._take_late(lambda other: other.segment == page.segment and other is not sync) if begun else []
        done = sync.told and sync.is_complete
        sync.told = sync.told and not done
        return (sync if done else None), late

    def _keep_incomplete(self, sync: Sync | None) -> None:
        """Keep a sync after another sync with its task has begun, unless the sync is complete."""
        if sync is not None and not sync.is_complete:
            self._syncs[sync.segment, sync.task, sync.last] = sync

    def take_overdue(self, before: float) -> list[Sync]:
        """Return the incomplete syncs to report, because their last page came before a time; mark them as reported."""
        return self._take_late(lambda sync: sync.last < before)

    def list_incomplete(self, now: float) -> list[Sync]:
        """Return the syncs of the last week that were reported as incomplete."""
        return [sync for sync in self._syncs.values() if sync.told and sync.last > now - WEEK_S]

    def _take_late(self, is_meant: Callable[[Sync], bool]) -> list[Sync]:
        """Return the incomplete syncs that were not reported yet; mark them as reported."""
        late = [sync for sync in self._syncs.values() if not sync.told and is_meant(sync) and not sync.is_complete]
        for sync in late:
            sync.told = True
        return late

    def dump(self) -> str:
        """Return the syncs as JSON; "" if there are none."""
        return msgspec.json.encode([*self._syncs.values()]).decode() if self._syncs else ""

    def load(self, text: str) -> None:
        """Replace the syncs by those of a `dump`. Raises msgspec.MsgspecError."""
        self._syncs = {}
        for sync in msgspec.json.decode(text or "[]", type=list[Sync]):
            self._keep_incomplete(self._syncs.pop((sync.segment, sync.task, CURRENT), None))
            self._syncs[sync.segment, sync.task, CURRENT] = sync


def describe(syncs: list[Sync]) -> str:
    """Return a sentence on incomplete syncs; "" if there are none."""
    if not syncs:
        return ""
    oldest = min(sync.last for sync in syncs)
    since = f"{datetime.fromtimestamp(oldest, UTC):%Y-%m-%dT%H:%M:%SZ}"
    which = "; ".join(map(str, syncs[:SYNCS_SHOWN])) + ("; ..." if len(syncs) > SYNCS_SHOWN else "")
    advice = "have Heap sync the segment again, or push its whole membership (relay cohorts push)"
    return f"{len(syncs)} incomplete segment sync{'s' * (len(syncs) > 1)} since {since}: {which}; {advice}"
