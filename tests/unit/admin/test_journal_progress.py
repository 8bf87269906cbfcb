"""How far the process is that reads the journal, as the API tells its clients."""

import asyncio
import json
from typing import Any, NoReturn

import click
import pytest

from relay.admin import question_process
from relay.admin.question_process import QuestionProcess
from relay.api import Kind, User
from relay.cli.access import StateAccess, choose_access
from relay.cli.state_options import StateOptions
from relay.inspect import UNTOLD, DumpPart, JournalProgress, Stretch
from relay.journal import Journal
from relay.store import JournalLimits
from tests.unit.admin.shown_daemon import Bench

KIND = Kind("braze", "users.messages.email.Open")
LINES = [(2, 10), (4, 10), (6, 10), (8, 10), (10, 10)]
"""Of five blocks with two events each."""


@pytest.fixture
async def reading(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """An API that tells of every block."""
    monkeypatch.setattr(question_process, "INTERVAL_S", 0.0)
    journal = Journal(bench.socket.parent / "journal", JournalLimits(max_size=1 << 30, retention=3600), 1 << 20)
    for _ in LINES:
        await journal.append([KIND] * 2, [b'{"id":"a"}', b'{"id":"b"}'])
    await journal.close()
    return bench


def collect(told: list[tuple[int, int]]) -> JournalProgress:
    return JournalProgress(lambda read, of: told.append((read, of)))


async def test_lines_with_the_progress_come_before_the_answer(reading: Bench) -> None:
    status, plain, _ = await reading.ask("GET", "/audit")
    _, text, answer = await reading.ask("GET", "/audit?progress=true")
    *lines, last = map(json.loads, text.splitlines())
    assert (status, last, answer.content_type) == (200, plain, "application/x-ndjson")
    assert lines == [{"read": read, "of": of} for read, of in LINES]
    assert (await reading.ask("POST", "/replays/count?progress=true", {"connector": "hoop"}))[0] == 404


async def test_commands_get_the_same_answers_with_progress(reading: Bench) -> None:
    access = choose_access(StateOptions(reading.socket.parent))

    def compare() -> list[list[tuple[int, int]]]:
        found = []
        for ask in (audit, check, trace, count, look, dump):
            told = list[tuple[int, int]]()
            assert ask(access, collect(told)) == ask(access, UNTOLD)
            found.append(told)
        return found

    assert await asyncio.to_thread(compare) == [*[LINES] * 5, [(1, 5), (3, 5), (5, 5)]]


def audit(access: StateAccess, progress: JournalProgress) -> object:
    return access.audit(progress)


def check(access: StateAccess, progress: JournalProgress) -> object:
    return access.check_journal(progress)


def trace(access: StateAccess, progress: JournalProgress) -> object:
    return access.trace("a", progress)


def count(access: StateAccess, progress: JournalProgress) -> object:
    return access.count_replay(Stretch(connector="heap"), progress)


def look(access: StateAccess, progress: JournalProgress) -> object:
    return access.find_remains(User("anna"), progress)


def dump(access: StateAccess, progress: JournalProgress) -> object:
    return [*access.dump_journal(DumpPart(start=1, stop=6), progress)]


async def test_a_reading_that_breaks_off_says_why(reading: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def break_off(self: QuestionProcess, name: str, *, tell: Any, **more: Any) -> NoReturn:
        await tell(b'{"read":2,"of":10}\n')
        raise OSError("the disk is gone")

    monkeypatch.setattr(QuestionProcess, "answer", break_off)
    access = choose_access(StateOptions(reading.socket.parent))
    told = list[tuple[int, int]]()
    with pytest.raises(click.ClickException, match="the disk is gone"):
        await asyncio.to_thread(access.audit, collect(told))
    assert told == LINES[:1]
