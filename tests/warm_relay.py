"""Imports relay, and makes what every relay makes of its own code: processes that are forked later begin with it.

The process that forks relays imports this module once. See `tests.forks`.
"""

import re
from contextlib import suppress
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

from aiohttp import web

from relay import postgres  # noqa: F401  this and more is imported late by what needs it
from relay.admin.openapi import render_contract
from relay.api import Settings
from relay.api.transport import http  # noqa: F401
from relay.cli import access  # noqa: F401
from relay.commands import COMMANDS
from relay.config.load import load
from relay.config.plugins.registry import Registry
from relay.proposal import available
from relay.status import prometheus  # noqa: F401

ROOT = Path(__file__).parents[1]


def warm_up(folder: Path) -> None:
    """Import the commands. Build validators and schemas of all settings, and the patterns of the admin paths.

    `folder`: it gets the compiled templates of the console, once per template.
    """
    with suppress(ImportError):
        import uvloop  # noqa: F401  the event loop of relay, if it is installed
    with suppress(ImportError):
        from jinja2 import FileSystemBytecodeCache

        from relay.console import templates

        made: Any = partial(templates.Environment, bytecode_cache=FileSystemBytecodeCache(str(folder)))
        templates.Environment = made
    for command in COMMANDS.values():
        import_module(f"relay.cli.commands.{command.module}")
    load([ROOT / "conf.d"], Registry.discover(()))
    import_module("relay.proposal.subprocess")
    available.describe_settings = cache(available.describe_settings)
    available.list_available((), {})
    models: list[type[Settings]] = [Settings]
    for model in models:
        model.model_rebuild()
        models += model.__subclasses__()
    routes = web.Application().router
    for path in re.findall(r"^  (/.*?):", render_contract(), re.MULTILINE):
        routes.add_get(path, _answer_nothing)


async def _answer_nothing(_: web.Request) -> web.Response:
    return web.Response()
