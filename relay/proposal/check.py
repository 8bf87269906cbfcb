"""Checks a proposed configuration as a reload would, and changes nothing."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from relay.config import (
    ConfFolders,
    Config,
    ConfigError,
    Registry,
    Text,
    find_unmade,
    find_written_folder,
    load,
    load_again,
    make_mistakes,
)
from relay.deliver import compare, make_plans
from relay.proposal.changes import compare_configs, find_waiting
from relay.proposal.probe import probe_connector
from relay.proposal.sample import take_sample
from relay.proposal.values import CheckedProposal, Proposal
from relay.status import ReloadResult
from relay.store import Store


class Setting(Struct, frozen=True, kw_only=True):
    """The relay that runs, as far as its configuration goes; or where a relay would find its configuration."""

    folders: ConfFolders
    """The folders of conf.d."""
    plugin_folders: Sequence[Path]
    plugins: Mapping[str, str] | None = None
    """`Registry.fingerprints` of the plugins that relay has loaded; None: no relay runs."""
    in_force: Sequence[Text] = ()
    """The files of the configuration in force."""
    used: Sequence[Text] = ()
    """The files of the configuration of the start."""
    state: Path
    """The state folder."""

    def discover(self) -> Registry:
        """Load the plugins that relay has loaded, or would load, as they are now."""
        return Registry.discover(self.plugin_folders, self.plugins)


def check_proposal(store: Store, setting: Setting, proposal: Proposal) -> CheckedProposal:
    """Check a proposed configuration, and try what is asked for. Raises LookupError for an unknown connector.

    While no relay runs, credentials of the service are not read, and nothing is tried.
    """
    registry = setting.discover()
    folder, runs = find_written_folder(setting.folders), setting.plugins is not None
    files = {folder / name: text for name, text in proposal.files.items()}
    try:
        loaded = load(setting.folders, registry, secrets_required=runs, proposed=files)
    except ConfigError as error:
        return CheckedProposal(mistakes=error.mistakes, warnings=error.warnings)
    config = loaded.config
    mistakes = make_mistakes(find_unmade(config, setting.state).failures)
    found = CheckedProposal(mistakes=mistakes, warnings=loaded.warnings)
    if mistakes:
        return found
    for name in filter(None, (proposal.probe, proposal.sample)):
        config.get_connector(name)
    if not runs:
        return found
    try:
        found = replace(found, result=_compare(setting, config, registry))
    except ConfigError as error:
        reason = f"the configuration in force cannot be read again: {error.mistakes[0]}"
        found = replace(found, unknown=f"what would change is not known: {reason}")
    if proposal.probe:
        found = replace(found, probe=asyncio.run(probe_connector(config.connectors[proposal.probe], setting.state)))
    if proposal.sample:
        found = replace(found, sample=asyncio.run(take_sample(store, config, proposal.sample, setting.state)))
    return found


def _compare(setting: Setting, new: Config, registry: Registry) -> ReloadResult:
    """Compare a configuration with the one in force. Raises ConfigError."""
    old = load_again(setting.in_force, registry).config
    used = old if setting.used == setting.in_force else load_again(setting.used, registry).config
    return compare_configs(old, new, compare(make_plans(old), make_plans(new)), find_waiting(used, new))
