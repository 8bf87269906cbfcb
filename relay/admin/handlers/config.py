"""The configuration over the admin API: what is in force, and what it can name."""

from typing import Any, Final

from aiohttp import web

from relay.admin.control import Control
from relay.admin.question_process import QuestionProcess
from relay.admin.responses import make_answer
from relay.config import Config, find_changed_files
from relay.threads import ADMIN

ANSWER_S: Final = 90.0
"""Seconds for an answer of the process, including the wait for earlier ones."""


class ConfigHandlers:
    """The handlers of the configuration."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._process = QuestionProcess(control.folder, control.config.journal, "relay.proposal", ANSWER_S)

    def list_routes(self) -> list[web.RouteDef]:
        """List the routes."""
        return [web.get("/config", self.get_config), web.get("/types", self.get_types)]

    async def get_config(self, _: web.Request) -> web.StreamResponse:
        """Answer with every setting in force, and with what waits for a restart or a reload."""
        config, restart = self._control.config, (await self._control.status(own=True)).restart
        return make_answer(await ADMIN.run(_describe_config, config) | {"restart": restart})

    async def get_types(self, _: web.Request) -> web.StreamResponse:
        """Answer with the plugins and their types."""
        config = self._control.config
        folders = [*map(str, config.plugin_folders)]
        return make_answer(await self._process.answer("types", plugin_folders=folders, known=config.plugins))


def _describe_config(config: Config) -> dict[str, Any]:
    return {
        "folders": [*map(str, config.folders)],
        "settings": [setting.plain for setting in config.list_effective()],
        "changed": find_changed_files(config.folders, config.texts),
    }
