"""relay's own commands, and the module of each below `relay.cli.commands`: plugins may not take these names."""

from collections.abc import Mapping
from typing import Final

COMMANDS: Final[Mapping[str, str]] = {
    "accept": "state.accept",
    "add": "config.add",
    "alerts": "running.alerts",
    "audit": "state.audit",
    "backup": "state.backup",
    "check": "config.check",
    "config": "config.config",
    "doctor": "doctor",
    "erasures": "state.erasures",
    "events": "config.events",
    "forget": "state.forget",
    "history": "running.history",
    "init": "config.init",
    "journal": "state.journal",
    "new": "config.new",
    "parked": "state.parked",
    "pause": "running.pause",
    "plugins": "config.plugins",
    "reload": "running.reload",
    "replay": "state.replay",
    "restore": "state.restore",
    "resume": "running.resume",
    "run": "running.run",
    "sandbox": "sandbox.demo",
    "send": "running.send",
    "status": "running.status",
    "tail": "running.tail",
    "top": "running.top",
    "trace": "state.trace",
}
