"""An entry of the history, and a selection of entries. Pure."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct, field
from msgspec.structs import asdict

from relay.api.internal import cut
from relay.store.erasure import ErasureResult
from relay.store.replay import Replay
from relay.words import format_count

SENTENCE_CHARS: Final = 4000
"""Characters of a sentence, at most."""
ENTRY_COLUMNS: Final = "kind, subject, sentence, done_by, about, at"
"""The columns of an entry in a table, without the number; `about` is JSON."""


class Entry(Struct, frozen=True):
    """An entry of the history."""

    kind: str
    """One of `relay.kinds.KINDS`."""
    subject: str
    """Its subject: "relay", "connector heap", "source braze", "journal", "worker 1"."""
    sentence: str
    by: str = ""
    """Who did it; "": relay itself."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """Numbers and names for programs, as JSON; never the content of an event."""
    at: float = field(default_factory=time.time)
    """Unix seconds."""
    number: int = 0
    """Given by the database in the order of writing."""


class HistoryQuery(Struct, frozen=True):
    """Selects entries."""

    since: float | None = None
    """The oldest time, in Unix seconds."""
    kind: str | None = None
    subject: str | None = None
    """A whole subject or its name: "connector heap" or "heap". Reloads that have changed the subject count, too: the
    subject is in `changed` of what they are about."""
    limit: int = -1
    """Number of the last entries; -1: all."""


def encode_entry(one: Entry) -> tuple[object, ...]:
    """Return the values of an entry for `ENTRY_COLUMNS`."""
    return one.kind, one.subject, cut(one.sentence, SENTENCE_CHARS), one.by, json.dumps(dict(one.about)), one.at


def parse_entry(kind: str, subject: str, sentence: str, by: str, about: str, at: float, number: int) -> Entry:
    """Parse the entry of a row with `ENTRY_COLUMNS` and the number."""
    return Entry(kind, subject, sentence, by, json.loads(about), at, number)


def find_new_entries(
    replays: Iterable[Replay], erasures: Iterable[ErasureResult], written: Iterable[Entry]
) -> list[Entry]:
    """Return the entries, by time, of replays that are done and of erasures that are done in every worker, but for
    those written already. `erasures`: what each worker removed."""
    known = {(one.kind, one.about.get("number")) for one in written}
    by_number: dict[int, list[ErasureResult]] = {}
    for result in erasures:
        by_number.setdefault(result.number, []).append(result)
    found = [*map(_make_replay_done, replays), *filter(None, map(_make_erasure_done, by_number.values()))]
    return sorted((one for one in found if (one.kind, one.about["number"]) not in known), key=lambda one: one.at)


def _make_replay_done(one: Replay) -> Entry:
    counts = {name: number for name, number in asdict(one.cursor.counts).items() if number}
    said = ", ".join(f"{number:,} {name}" for name, number in counts.items()) or "it had no events"
    sentence = f"replay {one.number} of {one.connector} is done: {said}"
    about = {"number": one.number, "asked_by": one.asked_by, **counts}
    return Entry("replay_done", f"connector {one.connector}", sentence, about=about, at=one.ended or 0.0)


def _make_erasure_done(results: Sequence[ErasureResult]) -> Entry | None:
    """Make the entry of an erasure from what each worker removed; None if a worker is not done."""
    ended = [one.done for one in results if one.done is not None]
    if len(ended) < len(results):
        return None
    number, events, parked = results[0].number, sum(one.events for one in results), sum(one.parked for one in results)
    sentence = f"erasure {number} is done: {format_count(events, 'event')} and {parked:,} parked removed"
    about = {"number": number, "asked_by": results[0].asked_by, "events": events, "parked": parked}
    return Entry("erased", f"erasure {number}", sentence, about=about, at=max(ended))
