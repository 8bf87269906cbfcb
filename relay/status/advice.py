"""Says what an admin can do about a connector that does not deliver, a full journal, and a doubt. Pure."""

from collections.abc import Iterator, Sequence
from typing import Final

from relay.status.model import LaneStatus
from relay.store import Doubt
from relay.words import format_span

SLOW_S: Final = 5.0
"""An attempt without an answer for so long is mentioned: the destination may hang."""
BUG: Final = "bug in the connector"
"""The prefix of the reason of an attempt that failed by the connector's fault."""
HANGS: Final = "the connector's thread hangs"
"""Part of the reason of an attempt that has left a thread behind."""
FULL: Final = "its file system is full"
"""Part of the reason of a connector that leaves the journal its room."""
SILENT: Final = "no answer in time"
"""The reason of an attempt without an answer within the connector's timeout."""
DAMAGE_ADVICE: Final = (
    "with a good copy of the file: stop relay, put the copy in its place, start relay, relay replay; without a copy:"
    " stop relay, relay journal repair, which brings no lost event back;"
)
DATABASE_ADVICE: Final = (
    "pg_amcheck looks for damage of the database; send the events again if another system has them;"
)


def is_slow(lane: LaneStatus) -> bool:
    """Return whether an attempt at the destination has been without an answer for a while."""
    return lane.unanswered >= SLOW_S


def advise_on_lane(lane: LaneStatus) -> str:
    """Return what an admin can do for a lane; "": nothing is known."""
    return "; ".join(advise_in_parts(lane))


def advise_in_parts(lane: LaneStatus) -> Iterator[str]:
    """Yield what an admin can do for a lane, in parts of a sentence."""
    status = lane.last_error.status if lane.last_error else None
    if is_slow(lane) and lane.state != "failing":
        yield f"no answer yet for {format_span(lane.unanswered)}"
    if lane.state == "paused":
        yield f"relay resume {lane.connector} lets it go on"
    elif lane.state == "unauthorized":
        yield f"{_advise_on_status(lane, status)}; relay resume {lane.connector} tries again at once"
    elif lane.state == "refusing":
        yield f"relay pause {lane.connector} keeps further events in the journal"
        yield "relay parked show NUMBER shows an event of that list, and the answer"
        yield f"after the repair: relay parked replay --connector {lane.connector}"
    elif lane.state == "broken":
        yield "relay starts it again; the log has the whole error"
    elif lane.state == "failing":
        yield _advise_if_failing(lane, status)
    elif lane.pending and lane.drained_in and not is_slow(lane):
        yield f"drains in {format_span(lane.drained_in)}"


def _advise_on_status(lane: LaneStatus, status: int | None) -> str:
    """Return what to do about a destination that does not accept relay, by its answer."""
    secrets = " and ".join(lane.secrets)
    if status is not None and 300 <= status < 400 and " to http" in describe_reason(lane):
        return f"put the address that it redirects to into {lane.file}"
    if status in (401, 403) and secrets:
        before = ": it was accepted until then" if lane.attempts.get("delivered") else ""
        # a reload reads files, and nothing else
        renewal = "relay reload" if all('(file "' in one for one in lane.secrets) else "systemctl restart relay"
        return f"check {secrets} in {lane.file}{before}; a new secret needs {renewal}"
    if status in (401, 403):
        return f"{lane.file} sets no credentials: check the address, or set credentials"
    if status is not None:
        return f"check the address in {lane.file}"
    return f"mend that at the destination, or the address and {secrets or 'credentials'} in {lane.file}"


def describe_reason(lane: LaneStatus) -> str:
    """Return the reason of the last error; "" without an error."""
    return lane.last_error.reason if lane.last_error else ""


TLS_ADVICE: Final = (
    ("expired", "its certificate has to be renewed there; check the clock here (relay doctor)"),
    ("not yet valid", "check the clock here (relay doctor)"),
    ("ostname mismatch", "its certificate is for another host: check the address in {file}"),
    ("IP address mismatch", "its certificate is for another host: check the address in {file}"),
    ("self-signed", "this machine does not know who signed its certificate: install that authority here"),
    ("issuer certificate", "this machine does not know who signed its certificate: install that authority here"),
    ("WRONG_VERSION_NUMBER", "it does not speak TLS there: check scheme and port in {file}"),
)
"""What to do, by a part of TLS's message."""
NO_HOST: Final = "there is no such host"


def _advise_on_reach(lane: LaneStatus) -> str:
    """Return what to do about a destination that gives no answer."""
    reason = describe_reason(lane)
    if "TLS: " in reason:
        known = (advice for part, advice in TLS_ADVICE if part in reason)
        return next(known, "see to its certificate and TLS versions, and to those of {file}").format(file=lane.file)
    if NO_HOST in reason:
        return f"check the host in {lane.file}, and the name servers of this machine"
    if reason.startswith(SILENT):
        return "ask whoever runs the destination why it does not answer"
    return f"see if the destination in {lane.file} can be reached from here"


def _advise_if_failing(lane: LaneStatus, status: int | None) -> str:
    reason = describe_reason(lane)
    if reason.startswith(BUG):
        return "the log has the whole error; relay plugins says where the connector comes from"
    if HANGS in reason:
        return "find out what it waits for: a disk, a pipe, a library; a restart of relay ends it"
    again = f"relay tries again in {format_span(max(1, lane.next_try))}" if lane.next_try else "relay tries again"
    if status == 429:
        return f"{again}; lower rate in {lane.file} if it goes on"
    if lane.writes and FULL in reason:
        return f"{again}; relay doctor says what takes it"
    if lane.writes:
        return f"{again}; see path in {lane.file}, the rights and the room there, and ReadWritePaths= in the unit"
    if status is None:
        return f"{again}; {_advise_on_reach(lane)}"
    return f"{again}; the destination has to recover"


def advise_on_full(lanes: Sequence[LaneStatus]) -> str:
    """Describe which connector fills the journal, and what to do."""
    waiting = [(lane.oldest_pending, lane.connector) for lane in lanes if lane.oldest_pending is not None]
    name = min(waiting)[1] if waiting else ""
    held = f"connector {name} waits longest: repair {name}, or " if name else ""
    return f"{held}raise journal.max_size in conf.d, then relay reload"


def advise_on_doubt(doubt: Doubt, *, in_database: bool = False) -> str:
    """Return what an admin can do about a doubt. `in_database`: whether servers keep the events."""
    accept = f"relay accept {doubt.what} ends this warning"
    advice = DATABASE_ADVICE if in_database else DAMAGE_ADVICE
    return f"{advice} {accept}" if doubt.is_damage else accept
