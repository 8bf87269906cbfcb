"""Access to a state folder with a running relay, through its admin API."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

import click
import msgspec
from msgspec.structs import asdict

from relay.admin import DEADLINE_S
from relay.api import User
from relay.cli.access.contract import Asked, RemovedConnectors, Resumed
from relay.client import Client
from relay.inspect import (
    PROBLEM,
    PROGRESS,
    UNTOLD,
    Audit,
    Check,
    DumpPart,
    JournalProgress,
    Receipt,
    Remains,
    ReplayCount,
    Stretch,
    Trace,
    WholeAudit,
)
from relay.status import Status, find_nodes_with
from relay.store import Entry, HistoryQuery, Parked, ParkedQuery, Replay

if TYPE_CHECKING:
    from relay.trial import Diff, DiffRequest

CHANGE_S: Final = 3600.0
"""Seconds for a million parked events, at most."""
READING_S: Final = DEADLINE_S + 30
"""Longer than relay's own limit, after which relay answers itself."""


class RemoteAccess:
    """Asks the running relay."""

    runs = True

    def __init__(self, client: Client) -> None:
        self._client = client

    def name_part(self, worker: int) -> str:
        return f"{self._noun} {worker}"

    @cached_property
    def _noun(self) -> str:
        status = msgspec.json.decode(self._client.read("GET", "/status"), type=Status)
        return "partition" if status.nodes else "worker"

    def read_parked(self, which: ParkedQuery, *, bodies: bool = True) -> Iterator[Parked]:
        given = {name: value for name, value in asdict(which).items() if value is not None and name != "numbers"}
        given |= {} if bodies else {"bodies": "false"}
        query = urlencode([*given.items(), *(("number", number) for number in which.numbers)])
        return (msgspec.json.decode(line, type=Parked) for line in self._client.read_lines(f"/parked?{query}"))

    def count_parked(self, which: ParkedQuery) -> int:
        return self._events("count", which)

    def drop_parked(self, which: ParkedQuery) -> int:
        return self._events("drop", which)

    def mark_parked(self, which: ParkedQuery) -> int:
        return self._events("replay", which)

    def _events(self, action: str, which: ParkedQuery) -> int:
        return int(self._client.ask("POST", f"/parked/{action}", which, timeout=CHANGE_S)["events"])

    def list_replays(self) -> list[Replay]:
        return msgspec.json.decode(self._client.read("GET", "/replays"), type=list[Replay])

    def ask_replay(self, replay: Replay, worker: int = 0) -> Asked:
        asked: dict[str, Any] = {"connector": replay.connector, "start": replay.cursor.start, "stop": replay.stop}
        asked |= {"events": replay.entries, "rate": replay.rate, "worker": worker}
        return Asked(**self._client.ask("POST", "/replays", asked))

    def cancel_replay(self, number: int) -> bool:
        return bool(self._client.ask("DELETE", f"/replays/{number}")["cancelled"])

    def count_replay(self, asked: Stretch, progress: JournalProgress = UNTOLD) -> ReplayCount:
        return msgspec.json.decode(self._read("/replays/count", progress, asked), type=ReplayCount)

    def list_receipts(self) -> list[Receipt]:
        return msgspec.json.decode(self._client.read("GET", "/erasures"), type=list[Receipt])

    def ask_erasure(self, user: User) -> Asked:
        return Asked(self._client.ask("POST", "/erasures", user)["number"], runs=True)

    def find_remains(self, user: User, progress: JournalProgress = UNTOLD) -> Remains:
        return msgspec.json.decode(self._read("/erasures/check", progress, user), type=Remains)

    def audit(self, progress: JournalProgress = UNTOLD) -> Audit:
        found = msgspec.json.decode(self._read("/audit", progress))
        return msgspec.convert(found, WholeAudit if "workers" in found else Audit)

    def check_journal(self, progress: JournalProgress = UNTOLD) -> Check:
        return msgspec.json.decode(self._read("/journal", progress), type=Check)

    def dump_journal(self, part: DumpPart, progress: JournalProgress = UNTOLD) -> Iterator[bytes]:
        given = {name: value for name, value in msgspec.to_builtins(part).items() if value is not None}
        return self._read_lines(f"/journal/events?{urlencode(given, doseq=True)}", progress)

    def trace(self, id: str, progress: JournalProgress = UNTOLD) -> Trace:
        return msgspec.json.decode(self._read(f"/trace?{urlencode({'id': id})}", progress), type=Trace)

    def _read(self, target: str, progress: JournalProgress, body: object = None) -> bytes:
        """Have the relay read the journal; return the answer. Raises click.ClickException, also if it breaks off."""
        line = b"".join(self._read_lines(target, progress, body)).strip()
        if line.startswith(PROBLEM):
            raise click.ClickException(msgspec.json.decode(line)["problem"])
        return line

    def _read_lines(self, target: str, progress: JournalProgress, body: object = None) -> Iterator[bytes]:
        """Have the relay read the journal; yield the lines of the answer, and tell how far the reading is."""
        if progress.tell is not None:
            target += f"{'&' if '?' in target else '?'}progress=true"
        for line in self._client.read_lines(target, READING_S, method="GET" if body is None else "POST", body=body):
            if not line.startswith(PROGRESS):
                yield line
            elif progress.tell is not None:
                said = msgspec.json.decode(line)
                progress.tell(said["read"], said["of"])

    def diff(self, asked: "DiffRequest", progress: JournalProgress = UNTOLD) -> "Diff":
        from relay.trial import Diff  # late: one command needs it

        return msgspec.json.decode(self._read("/diff", progress, asked), type=Diff)

    def read_history(self, query: HistoryQuery) -> Sequence[Entry]:
        given: dict[str, Any] = {name: value for name, value in asdict(query).items() if value is not None}
        return msgspec.json.decode(self._client.read("GET", f"/history?{urlencode(given)}"), type=list[Entry])

    def pause(self, connector: str, until: float | None) -> bool:
        target = f"{_lane(connector)}/pause"
        return bool(self._client.ask("POST", target if until is None else f"{target}?until={until!r}")["changed"])

    def resume(self, connector: str) -> Resumed:
        done = self._client.ask("POST", f"{_lane(connector)}/resume")
        return Resumed(done["changed"], done.get("retried", False))

    def find_removed(self) -> RemovedConnectors:
        seen = msgspec.json.decode(self._client.read("GET", "/status"), type=Status)
        configured = {one.connector: find_nodes_with(one.connector, seen.nodes) for one in seen.lanes}
        return RemovedConnectors(configured, {one.connector: one for one in seen.gone}, seen.failing_erasures)

    def forget(self, connector: str) -> None:
        self._client.ask("POST", f"{_lane(connector)}/forget")


def _lane(connector: str) -> str:
    return f"/lanes/{quote(connector, safe='')}"
