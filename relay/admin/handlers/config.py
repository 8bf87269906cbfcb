"""The configuration over the admin API: what is in force, what it can name, and what a new one would do."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import web
from msgspec.structs import asdict

from relay.admin.control import Control
from relay.admin.question_process import LOWEST, QuestionProcess, answer_by
from relay.admin.responses import convert_content, make_answer, read_content
from relay.config import Config, find_changed_files, is_file_name, stamp_plugins
from relay.proposal import AvailableTypes, CheckedProposal, Proposal, ProposalAnswer, add_pending
from relay.status import ReloadResult
from relay.threads import ADMIN

ANSWER_S: Final = 90.0
"""Seconds for an answer of the process, including the wait for earlier ones."""
EXAMPLE: Final = '{"files": {"60-heap.toml": "..."}}'


class ConfigHandlers:
    """The handlers of the configuration."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._journal = QuestionProcess(control.folder, control.config.journal, "relay.proposal", nice=LOWEST)
        self._process = QuestionProcess(control.folder, control.config.journal, "relay.proposal", ANSWER_S)

        self._types: tuple[object, msgspec.Raw] = None, msgspec.Raw()
        """The last answer about types, and the stamp of the plugins that it is about; None: it is not kept."""

    def list_routes(self) -> list[web.RouteDef]:
        """List the routes."""
        return [
            web.get("/config", self.get_config),
            web.get("/types", self.get_types),
            web.post("/check", self.check),
            web.post("/diff", self.diff),
            web.post("/lanes/{connector}/probe", self.probe),
        ]

    async def get_config(self, _: web.Request) -> web.StreamResponse:
        """Answer with every setting in force, and with what waits for a restart or a reload."""
        config, restart = self._control.config, (await self._control.status(own=True)).restart
        return make_answer(await ADMIN.run(_describe_config, config) | {"restart": restart})

    async def get_types(self, _: web.Request) -> web.StreamResponse:
        """Answer with the plugins and their types. The answer is kept until plugins change, unless one is broken."""
        folders, known = self._control.config.plugin_folders, self._control.config.plugins
        stamp = await ADMIN.run(_stamp, folders, known)
        if stamp is None or stamp != self._types[0]:
            answer = await self._process.answer("types", plugin_folders=[*map(str, folders)], known=known)
            is_whole = not any(one.error for one in msgspec.json.decode(answer, type=AvailableTypes).plugins)
            self._types = stamp if is_whole else None, answer
        return make_answer(self._types[1])

    async def probe(self, request: web.Request) -> web.StreamResponse:
        """Answer whether the destination of a connector can be reached."""
        connector = request.match_info["connector"]
        self._control.config.get_connector(connector)
        return make_answer(await self._process.answer("probe", setting=self._describe(), connector=connector))

    async def check(self, request: web.Request) -> web.StreamResponse:
        """Answer what is wrong with a proposed configuration, and what it would change."""
        proposal = convert_content(await read_content(request, EXAMPLE), Proposal)
        _check_names(proposal.files)
        answer = await self._process.answer("check", setting=self._describe(), proposal=asdict(proposal))
        found = msgspec.json.decode(answer, type=CheckedProposal)
        changes = [found.unknown] if found.unknown else []
        if found.result is not None:
            changes = (await self._add_pending(found.result)).said
        answered = ProposalAnswer(
            ok=not found.mistakes, mistakes=found.mistakes, warnings=found.warnings, changes=changes,
            probe=found.probe, sample=found.sample,
        )  # fmt: skip
        return make_answer(answered)

    async def diff(self, request: web.Request) -> web.StreamResponse:
        """Answer what a new configuration would have made of recorded events."""
        from relay.trial import DiffRequest  # late: few ask, and a daemon does without the package

        asked = convert_content(await read_content(request, EXAMPLE), DiffRequest)
        _check_names(asked.files)
        more = {"setting": self._describe(), "asked": msgspec.to_builtins(asked)}
        return await answer_by(self._journal, request, "diff", **more)

    async def _add_pending(self, result: ReloadResult) -> ReloadResult:
        """Add what is pending now for connectors that a reload would add or remove."""
        now = await self._control.status()
        waiting = {one.connector: one.pending + one.later for one in now.gone}
        waiting |= {lane.connector: lane.pending for lane in now.lanes}
        return add_pending(result, now, waiting, now.failing_erasures, self._control.config.journal.retention)

    def _describe(self) -> Mapping[str, Any]:
        """Describe the configuration for the process."""
        config, folders = self._control.config, self._control.config.folders
        return {
            "folders": {"others": [*map(str, folders.others)], "console": folders.console and str(folders.console)},
            "plugin_folders": [*map(str, config.plugin_folders)],
            "plugins": config.plugins,
            "in_force": config.texts,
            "used": self._control.used.texts,
            "state": str(self._control.folder),
        }


def _stamp(folders: Sequence[Path], known: Mapping[str, str]) -> object:
    """Return a stamp of all plugins, and of those that relay has loaded; None if a plugin cannot be found."""
    try:
        return dict(known), stamp_plugins(folders, known)
    except Exception:  # of a plugin: only a process of its own can say what it is
        return None


def _check_names(files: Iterable[str]) -> None:
    """Raise ValueError for a name that no file of the configuration can have."""
    for name in files:
        if not is_file_name(name):
            raise ValueError(f'{name!r:.100} is no file of conf.d, such as "60-heap.toml" or "60-heap.toml.d/9.toml"')


def _describe_config(config: Config) -> dict[str, Any]:
    counted = config.folders.in_order if config.console.launch else config.folders.others
    return {
        "folders": [*map(str, counted)],
        "settings": [setting.plain for setting in config.list_effective()],
        "changed": find_changed_files(config.folders, config.texts),
    }
