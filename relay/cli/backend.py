"""Parked events, replays and erasures, as commands see them: through the relay that runs with a state folder, else
directly."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Protocol
from urllib.parse import urlencode

import msgspec

from relay.admin import cancel_entry, erasure_entry, parked_entry, replay_entry
from relay.api import User
from relay.cli.client import Client, login, running
from relay.cli.state_options import note
from relay.inspect import Receipt, receipts
from relay.journal import is_locked
from relay.state import (
    Parked,
    Replay,
    Which,
    ask_erasure,
    ask_replay,
    cancel_replay,
    count_parked,
    drop_parked,
    list_replays,
    mark_parked,
    read_parked,
    worker_folder,
)

CHANGE_S: Final = 3600.0
"""How long a million parked events may take at the utmost."""


class Asked(NamedTuple):
    """What was asked for."""

    number: int
    runs: bool
    """Whether who is to do it runs; else it begins after the next start."""


class Desk(Protocol):
    """The functions of `relay.journal` of the same names, for one state folder; a replay is out of one worker's
    journal."""

    @property
    def runs(self) -> bool:
        """Whether a relay runs with the state folder."""

    def look_at_parked(self, which: Which, *, bodies: bool = True) -> Iterator[Parked]: ...
    def count_parked(self, which: Which) -> int: ...
    def drop_parked(self, which: Which) -> int: ...
    def mark_parked(self, which: Which) -> int: ...
    def replays(self) -> list[Replay]: ...
    def ask_replay(self, replay: Replay, worker: int = 0) -> Asked: ...
    def cancel_replay(self, number: int) -> bool: ...
    def receipts(self, after: float | None) -> list[Receipt]: ...
    def ask_erasure(self, user: User) -> Asked: ...


def desk_of(state: Path) -> Desk:
    """The one to use. Raises click.ClickException if a relay runs that may not be asked."""
    client = running(state)
    return _Folder(state) if client is None else _Running(client)


class _Folder:
    """Without a relay that runs, or with one that does not listen yet."""

    def __init__(self, state: Path) -> None:
        self._state = state

    @property
    def runs(self) -> bool:
        return is_locked(self._state)

    def look_at_parked(self, which: Which, *, bodies: bool = True) -> Iterator[Parked]:
        return read_parked(self._state, which, bodies=bodies)

    def count_parked(self, which: Which) -> int:
        return count_parked(self._state, which)

    def drop_parked(self, which: Which) -> int:
        return self._changed("parked_dropped", which, drop_parked(self._state, which))

    def mark_parked(self, which: Which) -> int:
        return self._changed("parked_replayed", which, mark_parked(self._state, which))

    def _changed(self, kind: Literal["parked_dropped", "parked_replayed"], which: Which, events: int) -> int:
        if events:
            note(self._state, parked_entry(kind, which, events, login()))
        return events

    def replays(self) -> list[Replay]:
        return list_replays(self._state)

    def ask_replay(self, replay: Replay, worker: int = 0) -> Asked:
        folder, asked = worker_folder(self._state, worker), replace(replay, asked_by=login())
        number = ask_replay(folder, asked)
        note(self._state, replay_entry(asked, number))
        return Asked(number, is_locked(folder))

    def cancel_replay(self, number: int) -> bool:
        cancelled = cancel_replay(self._state, number)
        if cancelled:
            note(self._state, cancel_entry(number, login()))
        return cancelled

    def receipts(self, after: float | None) -> list[Receipt]:
        return receipts(self._state, after)

    def ask_erasure(self, user: User) -> Asked:
        number = ask_erasure(self._state, user, login())
        note(self._state, erasure_entry(number, login()))
        return Asked(number, self.runs)


class _Running:
    """Through the admin API."""

    runs = True

    def __init__(self, client: Client) -> None:
        self._client = client

    def look_at_parked(self, which: Which, *, bodies: bool = True) -> Iterator[Parked]:
        given = {name: value for name, value in asdict(which).items() if value is not None and name != "numbers"}
        given |= {} if bodies else {"bodies": "false"}
        query = urlencode([*given.items(), *(("number", number) for number in which.numbers)])
        return (msgspec.json.decode(line, type=Parked) for line in self._client.lines(f"/parked?{query}"))

    def count_parked(self, which: Which) -> int:
        return self._events("count", which)

    def drop_parked(self, which: Which) -> int:
        return self._events("drop", which)

    def mark_parked(self, which: Which) -> int:
        return self._events("replay", which)

    def _events(self, action: str, which: Which) -> int:
        return int(self._client.ask("POST", f"/parked/{action}", which, timeout=CHANGE_S)["events"])

    def replays(self) -> list[Replay]:
        return msgspec.json.decode(self._client.read("GET", "/replays"), type=list[Replay])

    def ask_replay(self, replay: Replay, worker: int = 0) -> Asked:
        asked: dict[str, Any] = {"connector": replay.connector, "start": replay.cursor.start, "stop": replay.stop}
        asked |= {"events": replay.entries, "rate": replay.rate, "worker": worker}
        return Asked(**self._client.ask("POST", "/replays", asked))

    def cancel_replay(self, number: int) -> bool:
        return bool(self._client.ask("DELETE", f"/replays/{number}")["cancelled"])

    def receipts(self, after: float | None) -> list[Receipt]:
        del after  # relay goes by its own
        return msgspec.json.decode(self._client.read("GET", "/erasures"), type=list[Receipt])

    def ask_erasure(self, user: User) -> Asked:
        return Asked(self._client.ask("POST", "/erasures", user)["number"], runs=True)
