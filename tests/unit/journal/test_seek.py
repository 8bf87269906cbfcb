"""Where in the journal a time begins, and when a place in it was received."""

import time
from pathlib import Path

import pytest

from relay.api import Kind
from relay.journal.journal import Journal
from relay.journal.seek import find_offset_at, find_received_at
from relay.store.log import JournalLimits

KIND = Kind("s", "t")


async def test_a_time_leads_to_the_first_event_that_came_then_or_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits, now = JournalLimits(1 << 30, 3600), 1000
    monkeypatch.setattr(time, "time_ns", lambda: now * 10**9)
    for _ in range(3):  # three segments
        journal = Journal(tmp_path, limits, 1 << 20)
        for _ in range(4):
            await journal.append([KIND] * 2, [b"{}", b"{}"])
            now += 10
        if now < 1120:
            await journal.close()
    segments = journal._writer.segments
    assert len(segments) == 3
    for received, offset in [(0, 0), (1000, 0), (1001, 2), (1010, 2), (1035, 8), (1040, 8), (1110, 22), (1111, 24)]:
        assert find_offset_at(segments, journal.head, received) == offset, received
    for offset, received in [(0, 1000), (1, 1000), (2, 1010), (9, 1040), (23, 1110), (24, None)]:
        assert find_received_at(segments, journal.head, offset) == received, offset
        assert await journal.find_received(offset) == received, offset
    assert find_received_at(segments[1:], journal.head, 3) == 1040  # what retention has removed
    await journal.close()
