"""`relay audit`: proves from the journal, not from counters, that nothing vanished."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, pairwise
from typing import Any, Final

import click

from relay.cli.journal import Place, moment, places
from relay.cli.words import table
from relay.config import Config
from relay.journal import unsettled
from relay.journal.books import Books, Range, SourceBooks, acknowledged, books, parked_offsets, sources
from relay.journal.inspect import Inspected, inspect

RANGES_SHOWN: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """All that an audit looks at, in the order in which it has to be read while relay runs."""

    before: Sequence[Books]
    parked: Sequence[tuple[str, int]]
    journal: Sequence[Inspected]
    after: Sequence[Books]
    """The books once more: what is unsettled now was needed, and so in the journal, all the while."""

    @property
    def head(self) -> int:
        """Events below this offset were acknowledged before the journal was read."""
        return acknowledged(self.before)

    @property
    def kept(self) -> list[Range]:
        """The offsets that can be read, with good checksums."""
        return [(segment.base, segment.end) for segment in self.journal]

    @property
    def oldest(self) -> int:
        """The oldest offset of the journal."""
        return self.journal[0].base if self.journal else 0


@click.command
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@places
def audit(place: Place, as_json: bool) -> None:
    """Prove that every accepted event has an outcome or is still in the journal, for every connector.

    Reads the whole journal and changes nothing. Exits with 0 if the books balance, else with 1.
    """
    before = books(place.state)
    parked = parked_offsets(place.state)
    journal = inspect(place.journal, acknowledged(before))
    seen = Seen(before=before, parked=parked, journal=journal, after=books(place.state))
    problems = [*journal_problems(seen)]
    rows = []
    for lane in sorted(before, key=lambda lane: lane.connector):
        found = [*lane_problems(lane, seen, may_expire=_may_expire(lane, place.config))]
        rows.append(_row(lane) | {"balances": not found})
        problems += [f"{lane.connector}: {problem}" for problem in found]
    if as_json:
        result = {"balances": not problems, "oldest": seen.oldest, "head": seen.head, "connectors": rows}
        counted = [asdict(one) for one in sources(place.state)]
        click.echo(json.dumps(result | {"sources": counted, "problems": problems}, indent=2))
    else:
        click.echo("\n".join([*_report(seen, rows), *map(_source, sources(place.state)), "", *_verdict(problems)]))
    raise SystemExit(1 if problems else 0)


def journal_problems(seen: Seen) -> Iterator[str]:
    """Say what is missing between the journal's oldest offset and its head."""
    for segment in seen.journal:
        if not segment.is_whole:
            yield f"journal: {segment.path.name}: {segment}"
    if missing := unsettled(seen.oldest, seen.head, seen.kept):
        yield f"journal: offsets {ranges(missing)} cannot be read, of {seen.oldest} to {seen.head - 1}"


def lane_problems(lane: Books, seen: Seen, *, may_expire: bool) -> Iterator[str]:
    """Say what of a lane's books is not borne out by its cursor, the journal and the parked events.

    With `may_expire` what is older than the journal is no fault: the lane will count it as expired when it comes to it.
    """
    cursor, ledger = lane.cursor, lane.ledger
    places = [cursor.start, cursor.position, *chain(*cursor.ahead), lane.head]
    if any(low > high for low, high in pairwise(places)):
        yield f"the cursor is out of order: start, position, ranges ahead and head are {', '.join(map(str, places))}"
    if ledger.pending != _size(lane.unsettled):
        yield (
            f"accepted {ledger.accepted} less the outcomes leaves {ledger.pending} pending,"
            f" but the cursor leaves {_size(lane.unsettled)} unsettled: {ranges(lane.unsettled) or 'none'}"
        )
    readable = [(0, seen.oldest), *seen.kept] if may_expire else seen.kept
    needed = next((later for later in seen.after if later.connector == lane.connector), lane).cursor
    pending = unsettled(needed.position, lane.head, needed.ahead)
    if missing := [*chain(*(unsettled(start, stop, readable) for start, stop in pending))]:
        yield f"unsettled offsets {ranges(missing)} cannot be read in the journal"
    parked = [offset for connector, offset in seen.parked if connector == lane.connector and _counts(lane, offset)]
    if len(parked) > ledger.counts.parked:
        shown = ranges([(offset, offset + 1) for offset in parked])
        yield f"{len(parked)} events are parked, but {ledger.counts.parked} counted: offsets {shown}"


def _may_expire(lane: Books, config: Config | None) -> bool:
    """Whether the journal may let go of events that the lane still needs."""
    if config is None:
        return False
    return lane.connector not in config.connectors or config.journal.on_full == "expire_oldest"


def ranges(found: Sequence[Range]) -> str:
    """Write offsets for people: "3, 7-9", and how many ranges more there are."""
    shown = [str(start) if stop == start + 1 else f"{start}-{stop - 1}" for start, stop in found[:RANGES_SHOWN]]
    rest = len(found) - RANGES_SHOWN
    return ", ".join(shown) + (f" and {rest} more ranges" if rest > 0 else "")


def _counts(lane: Books, offset: int) -> bool:
    """Whether a parked event is in the saved counts; one that was parked since, or before a crash, is not yet."""
    return lane.cursor.start <= offset < lane.head and lane.is_settled(offset)


def _size(found: Sequence[Range]) -> int:
    return sum(stop - start for start, stop in found)


def _row(lane: Books) -> dict[str, Any]:
    ledger = lane.ledger
    figures = {"accepted": ledger.accepted, **asdict(ledger.counts), "pending": ledger.pending}
    return {"connector": lane.connector, **figures, "unsettled": _size(lane.unsettled)}


def _report(seen: Seen, rows: Sequence[dict[str, Any]]) -> list[str]:
    journal = f"journal: {len(seen.journal)} segments, offsets from {seen.oldest} up to {seen.head}"
    return [journal, "", *_table(rows), ""]


def _source(one: SourceBooks) -> str:
    duplicates = f"source {one.source}: {one.duplicates:,} duplicates left out"
    if one.refusals is None:
        return duplicates
    since, reason = moment(one.refusals.since), f"{one.refusals.status} {one.refusals.reason}"
    until = f"; its sender stops for good at {moment(one.refusals.deadline)}" if one.refusals.deadline else ""
    return f"{duplicates}; it has refused everything since {since}{until}: {reason}"


def _verdict(problems: Sequence[str]) -> list[str]:
    return [*problems, "NOT BALANCED: see above" if problems else "Everything balances."]


def _table(rows: Sequence[dict[str, Any]]) -> list[str]:
    if not rows:
        return ["(no connector has run)"]
    return table([[*rows[0]], *([_text(value) for value in row.values()] for row in rows)])


def _text(value: object) -> str:
    return {True: "yes", False: "NO"}[value] if isinstance(value, bool) else str(value)
