"""Asks `python -m relay.proposal` where no relay runs that could ask it."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import asdict, replace

from relay.admin import QuestionProcess
from relay.config import JournalSettings
from relay.console.settings import ConsoleOptions
from relay.proposal import AvailableTypes, CheckedProposal, Proposal

ANSWER_S: Final = 90.0
"""Seconds for an answer."""


async def check_alone(options: ConsoleOptions, proposal: Proposal) -> CheckedProposal:
    """Check a proposed configuration. Credentials of the service are not read, and nothing is tried. Raises OSError."""
    folders = options.folders
    setting: Mapping[str, Any] = {
        "folders": {"others": [*map(str, folders.others)], "console": folders.console and str(folders.console)},
        "plugin_folders": [*map(str, options.plugin_folders)],
        "state": str(options.state),
    }
    answer = await _ask(options, "check", setting=setting, proposal=asdict(proposal))
    return msgspec.json.decode(answer, type=CheckedProposal)


async def list_types_alone(options: ConsoleOptions) -> AvailableTypes:
    """List the plugins and the types that a relay would load. Raises OSError."""
    answer = await _ask(options, "types", plugin_folders=[*map(str, options.plugin_folders)], known={})
    found = msgspec.json.decode(answer, type=AvailableTypes)
    plugins = [replace(one, loaded=one.error is None) for one in found.plugins]
    return AvailableTypes(plugins, [replace(one, loaded=True) for one in found.types])


async def _ask(options: ConsoleOptions, question: str, **more: Any) -> msgspec.Raw:
    # The questions read no journal: its settings do not matter
    process = QuestionProcess(options.state, JournalSettings(), "relay.proposal", ANSWER_S)
    try:
        return await process.answer(question, **more)
    except LookupError as error:
        raise OSError(str(error.args[0])) from None
