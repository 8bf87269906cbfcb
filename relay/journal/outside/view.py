"""Reads a journal read-only and without its lock, whether relay runs or not.

While relay runs, the last segment grows and the oldest ones leave. So the ledgers are read before the journal: what
they call accepted was on disk then. A segment that is missing when its turn comes was removed by retention, and so were
all before it.
"""

import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from relay.api import Block
from relay.journal.failure import convert_disk_errors
from relay.journal.outside.inspected import Inspected, inspect_all, list_segments
from relay.journal.outside.repair import plan_segment
from relay.store import CheckedPart, LogSurvey, Passed, Range, UnreadPart, find_unsettled, ignore_position


class JournalView:
    """The journal in a folder."""

    def __init__(self, folder: Path, acknowledged: int = 0) -> None:
        """List the segments. Events below `acknowledged` must be there. Raises FileNotFoundError, OSError."""
        self._folder, self._acknowledged = folder, acknowledged
        self._segments = list_segments(folder, acknowledged)

    @property
    def problems(self) -> list[str]:
        """A sentence for each damaged segment among those read so far."""
        damaged = [segment for segment in self._segments if segment.condition in ("damaged", "gap")]
        return [f"{segment.path}: {segment}; relay journal check looks at all of it" for segment in damaged]

    def find_span(self) -> Range:
        """Find the oldest offset, and the acknowledged head, or the beginning of the last segment if that is later."""
        bases = [segment.base for segment in self._segments]
        return (bases[0], max(bases[-1], self._acknowledged)) if bases else (0, 0)

    def list_parts(self) -> list[UnreadPart]:
        """List the segments, the oldest first. Raises Unavailable."""
        parts: list[UnreadPart] = []
        for segment in self._segments:
            with convert_disk_errors(), suppress(FileNotFoundError):  # retention has just removed the segment
                about, grows = segment.path.stat(), segment.stop is None
                stamp = "" if grows else f"{about.st_ino} {about.st_size} {about.st_mtime_ns}"
                parts.append(UnreadPart(segment.path.name, segment.base, math.inf if grows else about.st_mtime, stamp))
        return parts

    def read(self, start: int = 0, since: float = 0.0) -> Iterator[tuple[str, Block]]:
        """Yield the good blocks from the one with `start` on, each with the name of its segment.

        Leaves out segments that were last written before `since` (Unix seconds). Raises Unavailable.
        """
        for segment in self._segments:
            if segment.stop is None or segment.stop > start:
                with convert_disk_errors(), suppress(FileNotFoundError):  # retention has just removed the segment
                    if not since or segment.path.stat().st_mtime >= since:
                        for block in segment.read_blocks(start):
                            yield segment.path.name, block

    def check(self, passed: Passed = ignore_position) -> list[CheckedPart]:
        """Read all segments from the first to the last byte; return what was found in each. Raises Unavailable."""
        return [segment.describe() for segment in self._inspect_all(passed)]

    def survey(self, passed: Passed = ignore_position) -> LogSurvey:
        """Read all segments from the first to the last byte. Raises Unavailable."""
        found = self._inspect_all(passed)
        kept = list[Range]()
        for segment in found:
            readable = [(segment.base, segment.end)]
            if not segment.is_whole:  # connectors go on behind damage
                with suppress(FileNotFoundError):  # retention has just removed it
                    readable = find_unsettled(segment.base, segment.limit, plan_segment(segment).lost)
            kept += readable
        return LogSurvey(
            parts=len(found),
            oldest=found[0].base if found else 0,
            kept=kept,
            problems=[f"{segment.path.name}: {segment}" for segment in found if not segment.is_whole],
        )

    def _inspect_all(self, passed: Passed) -> list[Inspected]:
        with convert_disk_errors():
            return inspect_all(self._folder, self._acknowledged, passed)
