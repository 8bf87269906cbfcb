"""[console] of conf.d as it is now: users who leave conf.d, hosts and proxies count at once."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from relay.config import (
    LOG,
    PLUGIN_FOLDERS,
    Address,
    ConfFolders,
    ConfigError,
    ConsoleSettings,
    TcpAddress,
    load_console,
    read_stamps,
)
from relay.threads import ADMIN
from relay.words import describe_error

LOOK_S: Final = 1.0
"""Seconds between two checks for changed files."""
log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleOptions:
    """What the command line says."""

    folders: ConfFolders
    """The folders of the configuration."""
    state: Path
    listen: tuple[Address, ...] = ()
    """Empty: `console.listen`."""
    launch: bool = False
    """Whether the console may change conf.d, whatever `console.launch` says."""
    plugin_folders: Sequence[Path] = PLUGIN_FOLDERS
    """The folders of drop-in plugins, for checks while relay does not run."""


class LiveSettings:
    """[console] of conf.d, read again when its files change. A wrong one never replaces a good one."""

    def __init__(self, options: ConsoleOptions) -> None:
        """Raises ConfigError, OSError. Blocking."""
        self.options = options
        self._stamps = read_stamps(options.folders)
        self.now = self._read(whole=False)
        """The settings."""

    def _read(self, *, whole: bool) -> ConsoleSettings:
        found = load_console(self.options.folders, whole=whole)
        LOG.note("table", "console", found)
        for name, user in found.user.items():
            if user.secret and user.secret.problem:
                log.warning("a user cannot sign in to the console", user=name, reason=user.secret.problem)
        return found.model_copy(update={"listen": self.options.listen}) if self.options.listen else found

    def find_exposed(self) -> Address | None:
        """Return an address that others can reach although there is no user; None without any."""
        if self.now.user:
            return None
        return next((one for one in self.now.listen if isinstance(one, TcpAddress) and not one.is_loopback), None)

    async def follow(self) -> None:
        """Read the settings again when files change, until cancelled. Other addresses and TLS take a restart."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await ADMIN.run(self._look)
            except ConfigError as error:
                log.error("console settings cannot be used, the former ones count", reason=str(error.mistakes[0]))
            except OSError as error:
                log.error("console settings cannot be used, the former ones count", reason=describe_error(error))

    def _look(self) -> None:
        stamps = read_stamps(self.options.folders)
        if stamps == self._stamps:
            return
        self._stamps = stamps
        before, self.now = self.now, self._read(whole=True)
        if self.now != before:
            log.info("console settings read again", users=len(self.now.user))
