"""`python -m relay.inspect`: reads the whole journal for a running relay, in a process of its own.

Reading a journal of many GiB holds the interpreter's lock: a thread of relay would delay every request. This process
gets only the CPU that nobody else wants. The question comes on standard input, the answer goes to standard output, and
an error to standard error. Lines before the answer, or between those of a dump, say how far the reading is, if that was
asked for. The process ends with its relay.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
from msgspec import Struct, field

from relay.api import User
from relay.config import JournalSettings
from relay.engine import open_store
from relay.inspect.audit import audit_all
from relay.inspect.check import check_all
from relay.inspect.dump import DumpPart, dump_all
from relay.inspect.progress import UNTOLD, JournalProgress, encode_progress
from relay.inspect.replay_count import Stretch, count_all
from relay.inspect.search import search_all
from relay.inspect.type_counts import count_types
from relay.inspect.user_search import find_remains
from relay.parent import end_with_parent
from relay.store import Store

NOT_THERE: Final = 3
"""The exit code if the subject does not exist."""
OUT: Final = 1
ERRORS: Final = 2
"""Descriptors of standard output and standard error."""
PIECE: Final = 256 << 10
"""Bytes written at a time; each piece costs relay some work."""


class Question(Struct, frozen=True):
    """A question about a journal."""

    name: str
    """One of QUESTIONS."""
    state: str
    journal: str
    """The settings of the journal, as `JournalSettings.write` returns them."""
    more: Mapping[str, Any] = field(default_factory=dict)
    interval: float | None = None
    """Seconds between the lines that say how far the reading is; None: there are none."""


def count_replay(store: Store, asked: Mapping[str, Any], within: list[str], progress: JournalProgress) -> object:
    """Count what a replay would take."""
    return count_all(store, msgspec.convert(asked, Stretch), within, progress)


def dump_events(store: Store, part: Mapping[str, Any], progress: JournalProgress) -> Iterator[bytes]:
    """Yield the events as lines."""
    return dump_all(store, msgspec.convert(part, DumpPart), progress)


def search_remains(store: Store, user: Mapping[str, Any], progress: JournalProgress) -> object:
    """Find what remains of a user."""
    return find_remains(store, msgspec.convert(user, User), progress)


QUESTIONS: Final[Mapping[str, Callable[..., object]]] = {
    "audit": audit_all,
    "check": check_all,
    "count": count_replay,
    "dump": dump_events,
    "remains": search_remains,
    "search": search_all,
    "types": count_types,
}


def main() -> None:
    """Answer the question."""
    answer_question(QUESTIONS)


def answer_question(questions: Mapping[str, Callable[..., object]]) -> None:
    """Answer the question on standard input. Exits with NOT_THERE, or with 1 if it cannot be answered."""
    end_with_parent()
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    try:
        with _divert_output() as out, open(out, "wb", PIECE, closefd=False) as file:
            file.writelines(answer(questions, asked, _make_progress(asked.interval, file)))
    except LookupError as error:
        sys.stderr.write(f"{error.args[0]}\n")
        sys.exit(NOT_THERE)
    except OSError as error:
        sys.exit(str(error))


@contextmanager
def _divert_output() -> Iterator[int]:
    """Yield standard output. What plugins print meanwhile goes nowhere: a full pipe would block them."""
    null, out, errors = os.open(os.devnull, os.O_WRONLY), os.dup(OUT), os.dup(ERRORS)
    os.dup2(null, OUT)
    os.dup2(null, ERRORS)
    try:
        yield out
    finally:
        sys.stdout.flush()
        os.dup2(out, OUT)
        os.dup2(errors, ERRORS)


def _make_progress(interval: float | None, out: BinaryIO) -> JournalProgress:
    def tell(read: int, of: int) -> None:
        out.write(encode_progress(read, of))
        out.flush()

    return UNTOLD if interval is None else JournalProgress(tell, interval)


def answer(
    questions: Mapping[str, Callable[..., object]], asked: Question, progress: JournalProgress = UNTOLD
) -> Iterable[bytes]:
    """Return the answer: a value as JSON, or lines."""
    store = open_store(Path(asked.state), JournalSettings.read(asked.journal))
    found = questions[asked.name](store, **asked.more, progress=progress)
    return found if isinstance(found, Iterator) else [msgspec.json.encode(found)]
