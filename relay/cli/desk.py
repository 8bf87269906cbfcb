"""Parked events and replays, as commands see them: through the relay that runs with a state folder, else directly."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode

import msgspec

from relay.cli.client import Client, running
from relay.journal import Parked, Replay, Which, count_parked, drop_parked, look_at_parked, mark_parked
from relay.journal.folders import worker_folder
from relay.journal.replays import ask_replay, cancel_replay, replays


class Desk(Protocol):
    """The functions of `relay.journal` of the same names, for one state folder; a replay is out of one worker's
    journal."""

    def look_at_parked(self, which: Which) -> Iterator[Parked]: ...
    def count_parked(self, which: Which) -> int: ...
    def drop_parked(self, which: Which) -> int: ...
    def mark_parked(self, which: Which) -> int: ...
    def replays(self) -> list[Replay]: ...
    def ask_replay(self, replay: Replay, worker: int = 0) -> int: ...
    def cancel_replay(self, number: int) -> bool: ...


def desk_of(state: Path) -> Desk:
    """The one to use. Raises click.ClickException if a relay runs that may not be asked."""
    client = running(state)
    return _Folder(state) if client is None else _Running(client)


class _Folder:
    """Without a relay that runs."""

    def __init__(self, state: Path) -> None:
        self._state = state

    def look_at_parked(self, which: Which) -> Iterator[Parked]:
        return look_at_parked(self._state, which)

    def count_parked(self, which: Which) -> int:
        return count_parked(self._state, which)

    def drop_parked(self, which: Which) -> int:
        return drop_parked(self._state, which)

    def mark_parked(self, which: Which) -> int:
        return mark_parked(self._state, which)

    def replays(self) -> list[Replay]:
        return replays(self._state)

    def ask_replay(self, replay: Replay, worker: int = 0) -> int:
        return ask_replay(worker_folder(self._state, worker), replay)

    def cancel_replay(self, number: int) -> bool:
        return cancel_replay(self._state, number)


class _Running:
    """Through the admin API."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def look_at_parked(self, which: Which) -> Iterator[Parked]:
        given = {name: value for name, value in asdict(which).items() if value is not None and name != "numbers"}
        query = urlencode([*given.items(), *(("number", number) for number in which.numbers)])
        return (msgspec.json.decode(line, type=Parked) for line in self._client.lines(f"/parked?{query}"))

    def count_parked(self, which: Which) -> int:
        return self._events("count", which)

    def drop_parked(self, which: Which) -> int:
        return self._events("drop", which)

    def mark_parked(self, which: Which) -> int:
        return self._events("replay", which)

    def _events(self, action: str, which: Which) -> int:
        return int(self._client.ask("POST", f"/parked/{action}", which)["events"])

    def replays(self) -> list[Replay]:
        return msgspec.json.decode(self._client.read("GET", "/replays"), type=list[Replay])

    def ask_replay(self, replay: Replay, worker: int = 0) -> int:
        asked: dict[str, Any] = {"connector": replay.connector, "start": replay.cursor.start, "stop": replay.stop}
        asked |= {"events": replay.entries, "rate": replay.rate, "worker": worker}
        return int(self._client.ask("POST", "/replays", asked)["number"])

    def cancel_replay(self, number: int) -> bool:
        return bool(self._client.ask("DELETE", f"/replays/{number}")["cancelled"])
