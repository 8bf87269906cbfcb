"""Acts of admins, as entries of the history. Pure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from msgspec.structs import asdict

from relay.inspect import Backup
from relay.status import ReloadResult
from relay.store import Entry, Forgotten, ParkedQuery, Replay
from relay.words import COMMANDING, format_count, format_ranges, format_time, shorten

SAID: Final = 50
"""Changes or mistakes of a reload that are kept."""
BY_CHARS: Final = 100
"""Characters of an admin's name."""


def clean_name(text: str) -> str:
    """Return an admin's name as a short line without control characters."""
    return " ".join(COMMANDING.sub("", text).split())[:BY_CHARS]


def make_pause_entry(connector: str, until: float | None, by: str) -> Entry:
    """Make the entry of a pause until a time (Unix seconds), or without an end."""
    end = f" until {format_time(until)}" if until else ""
    return Entry(
        "paused", f"connector {connector}", f"{connector} was paused{end}", by, {"until": until} if until else {}
    )


def make_resume_entry(connector: str, by: str, *, paused: bool = True) -> Entry:
    """Make the entry of a resumed connector, `paused` or waiting for its destination."""
    said = f"{connector} was resumed" if paused else f"{connector} was told to try again at once"
    return Entry("resumed", f"connector {connector}", said, by)


def make_forget_entry(kept: Forgotten, by: str) -> Entry:
    """Make the entry of a forgotten connector."""
    lost = f"{kept.pending:,} pending and {kept.parked:,} parked events"
    about = {"pending": kept.pending, "parked": kept.parked, "erasures": kept.erasures}
    return Entry("forgotten", f"connector {kept.connector}", f"{kept.connector} was forgotten, with {lost}", by, about)


def make_replay_entry(replay: Replay, number: int) -> Entry:
    """Make the entry of a requested replay."""
    start, stop = replay.cursor.start, replay.stop
    said = f"replay {number} of {replay.connector} was asked for: offsets {format_ranges([(start, stop)])}"
    about = {"number": number, "start": start, "stop": stop, "events": [*replay.entries], "rate": replay.rate}
    return Entry("replay_started", f"connector {replay.connector}", said, replay.asked_by, about)


def make_cancel_entry(number: int, by: str) -> Entry:
    """Make the entry of a cancelled replay."""
    return Entry(
        "replay_cancelled", f"replay {number}", f"replay {number} was ended where it was", by, {"number": number}
    )


def make_parked_entry(
    kind: Literal["parked_dropped", "parked_replayed"], which: ParkedQuery, events: int, by: str
) -> Entry:
    """Make the entry of dropped or replayed parked events."""
    given = {name: value for name, value in asdict(which).items() if value and name != "numbers"}
    if which.numbers:
        given["numbers"] = len(which.numbers)
    subject = f"source {which.source}" if which.source else "parked events"
    subject = f"connector {which.connector}" if which.connector else subject
    what = "dropped" if kind == "parked_dropped" else "to be delivered once more"
    named = ("connector", "source", "cause", "type", "reason")
    words = ", ".join(f"{name} {given[name]}" for name in named if name in given)
    said = f"{format_count(events, 'parked event')} {what}" + (f" ({words})" if words else "")
    return Entry(kind, subject, said, by, {"events": events, "selected": given})


def make_refused_entry(subject: str, what: str, by: str) -> Entry:
    """Make the entry of an action that a client of the admin API refused to its user."""
    action = clean_name(what)
    return Entry(
        "refused", clean_name(subject), f"{by or 'somebody'} may not do this: {action}", by, {"action": action}
    )


def make_erasure_entry(number: int, by: str) -> Entry:
    """Make the entry of a requested erasure. The receipt has the user."""
    return Entry("erasure_requested", f"erasure {number}", f"erasure {number} was asked for", by, {"number": number})


def make_accept_entry(what: str, found: Sequence[str], by: str) -> Entry:
    """Make the entry of an accepted journal or clock."""
    return Entry("accepted", what, f"the {what} was accepted: {'; '.join(found)}", by)


def make_repair_entry(lines: Sequence[str], by: str) -> Entry:
    """Make the entry of a repaired journal: what it saved and lost, by file."""
    return Entry("repaired", "journal", f"the journal was repaired: {'; '.join(lines)}", by)


def make_restore_entry(source: Path, found: Backup, by: str) -> Entry:
    """Make the entry of a state folder restored from a backup."""
    made = f"as of {format_time(found.made)}, with {format_count(found.events, 'event')}"
    about = {"made": found.made, "events": found.events}
    return Entry("restored", "relay", f"restored from the backup in {source} {made}", by, about)


def make_copy_entry(source: str, by: str) -> Entry:
    """Make the entry of a journal that was copied. `source`: where it was before."""
    return Entry("copied", "journal", f"the journal was copied here from {source}", by)


def make_reload_entry(result: ReloadResult, by: str) -> Entry:
    """Make the entry of a reload: its changes, or every mistake."""
    said = result.said
    lines = shorten(said, SAID)
    if result.ok:
        changed = [f"{one.kind} {one.name}" for one in result.changes if one.kind != "setting"][:SAID]
        about = {"said": lines, "changed": changed} if changed else {"said": lines}
        return Entry("reloaded", "relay", f"the configuration was reloaded: {'; '.join(lines)}", by, about)
    sentence = f"the configuration was not reloaded, the one before goes on: {'; '.join(lines)}"
    return Entry("reload_refused", "relay", sentence, by, {"said": lines})
