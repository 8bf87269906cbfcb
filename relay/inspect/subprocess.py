"""`python -m relay.inspect`: reads the whole journal for a relay that runs, in a process of its own.

Reading a journal of many GiB takes the interpreter's lock for as long: in a thread of the relay it would hold up every
request. Here it only gets what CPU nobody else wants. The question comes on standard input, the answer goes to standard
output, the reason why there is none to standard error; it ends with the relay that asked.
"""

import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from relay.api import User
from relay.inspect.audit import audit_all
from relay.inspect.check import check_all
from relay.inspect.dump import DumpPart, dump_all
from relay.inspect.replay_count import Stretch, count_all
from relay.inspect.search import search_all
from relay.inspect.user_search import find_remains
from relay.parent import end_with_parent

NOT_THERE: Final = 3
"""The exit code that says: what was asked for is not there."""
PIECE: Final = 256 << 10
"""Bytes that are written at a time: relay has something to do for each time."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be read."""

    name: str
    """One of QUESTIONS."""
    state: str
    path: str
    """The setting `journal.path`."""
    more: Mapping[str, Any] = field(default_factory=dict)


def count(state: Path, path: Path, asked: Mapping[str, Any], within: list[str]) -> object:
    """Count what a replay would take."""
    return count_all(state, path, msgspec.convert(asked, Stretch), within)


def dump(state: Path, path: Path, part: Mapping[str, Any]) -> Iterator[bytes]:
    """The events as lines."""
    return dump_all(state, path, msgspec.convert(part, DumpPart))


def remains(state: Path, path: Path, user: Mapping[str, Any]) -> object:
    """What there still is of a user."""
    return find_remains(state, path, msgspec.convert(user, User))


QUESTIONS: Final[Mapping[str, Callable[..., object]]] = {
    "audit": audit_all,
    "check": check_all,
    "count": count,
    "dump": dump,
    "remains": remains,
    "search": search_all,
}


def main() -> None:
    """Answer the question. Exits with NOT_THERE, or 1 if it cannot be answered."""
    end_with_parent()
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    try:
        with open(sys.stdout.fileno(), "wb", PIECE, closefd=False) as out:
            out.writelines(answer(asked))
    except LookupError as error:
        sys.stderr.write(f"{error.args[0]}\n")
        sys.exit(NOT_THERE)
    except (OSError, sqlite3.Error) as error:
        sys.exit(str(error))


def answer(asked: Question) -> Iterable[bytes]:
    """What there is to say: a value as JSON, or lines."""
    found = QUESTIONS[asked.name](Path(asked.state), Path(asked.path), **asked.more)
    return found if isinstance(found, Iterator) else [msgspec.json.encode(found)]
