"""`python -m relay.proposal`: answers a question on a configuration for a running relay, in a process of its own.

Each answer loads plugins as they are now, and runs their code. The process ends with its answer, with its relay, and
when its relay has waited long enough.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from relay.inspect import JournalProgress, answer_question
from relay.proposal.available import AvailableTypes, list_available
from relay.store import Store


def find_types(
    store: Store, plugin_folders: Sequence[str], known: Mapping[str, str], progress: JournalProgress
) -> AvailableTypes:
    """List the plugins and their types."""
    return list_available([*map(Path, plugin_folders)], known)


QUESTIONS: Final[Mapping[str, Callable[..., object]]] = {"types": find_types}


def main() -> None:
    """Answer the question."""
    answer_question(QUESTIONS)
