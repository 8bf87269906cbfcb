"""`python -m relay.proposal`: answers a question on a configuration for a running relay, in a process of its own.

Each answer loads plugins as they are now, and runs their code. The process ends with its answer, with its relay, and
when its relay has waited long enough.
"""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from relay.config import ConfigError, load_again
from relay.inspect import JournalProgress, answer_question
from relay.proposal.available import list_available
from relay.proposal.check import Setting, check_proposal
from relay.proposal.probe import Probe, probe_connector
from relay.proposal.values import AvailableTypes, CheckedProposal, Proposal
from relay.store import Store
from relay.trial import Diff, DiffRequest, diff_events


def find_types(
    store: Store, plugin_folders: Sequence[str], known: Mapping[str, str], progress: JournalProgress
) -> AvailableTypes:
    """List the plugins and their types."""
    return list_available([*map(Path, plugin_folders)], known)


def check(
    store: Store, setting: Mapping[str, Any], proposal: Mapping[str, Any], progress: JournalProgress
) -> CheckedProposal:
    """Check a proposed configuration."""
    return check_proposal(store, _read_setting(setting), msgspec.convert(proposal, Proposal))


def probe(store: Store, setting: Mapping[str, Any], connector: str, progress: JournalProgress) -> Probe:
    """Probe a connector of the configuration in force. Raises LookupError, OSError."""
    its = _read_setting(setting)
    try:
        config = load_again(its.in_force, its.discover()).config
    except ConfigError as error:
        raise OSError(f"the configuration in force cannot be read again: {error.mistakes[0]}") from None
    config.get_connector(connector)
    return asyncio.run(probe_connector(config.connectors[connector], its.state))


def compare(store: Store, setting: Mapping[str, Any], asked: Mapping[str, Any], progress: JournalProgress) -> Diff:
    """Pass recorded events through the configuration in force and a new one. Raises LookupError, OSError."""
    its = _read_setting(setting)
    request = msgspec.convert(asked, DiffRequest)
    return diff_events(store, its.in_force, its.discover(), its.state, request, progress, secrets_required=True)


def _read_setting(given: Mapping[str, Any]) -> Setting:
    return msgspec.convert(given, Setting, dec_hook=lambda _, text: Path(text))


QUESTIONS: Final[Mapping[str, Callable[..., object]]] = {
    "check": check,
    "diff": compare,
    "probe": probe,
    "types": find_types,
}


def main() -> None:
    """Answer the question."""
    os.environ.setdefault("RES_OPTIONS", "timeout:2 attempts:1")  # a name server that is dead is not waited for longer
    answer_question(QUESTIONS)
