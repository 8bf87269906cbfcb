"""An installed systemd unit: whether it runs, and what its user may read and write."""

import grp
import os
import pwd
import shlex
import shutil
import stat
import subprocess
import sysconfig
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Final

from relay.cli.commands.doctor.report import find_existing
from relay.config import CONF_FOLDERS

NAME: Final = "relay.service"
CONSOLE: Final = "relay-console.service"
STATES: Final = (
    "LoadState",
    "ActiveState",
    "SubState",
    "UnitFileState",
    "Result",
    "ExecMainStatus",
    "NeedDaemonReload",
)
ANSWER_S: Final = 5.0
FOLDERS: Final = {
    "StateDirectory": Path("/var/lib"),
    "CacheDirectory": Path("/var/cache"),
    "LogsDirectory": Path("/var/log"),
    "RuntimeDirectory": Path("/run"),
}
"""Settings for folders that systemd makes for the unit's user, and their parents."""
HOMES: Final = (Path("/home"), Path("/root"), Path("/run/user"))
TEMPORARY: Final = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108  they are only looked for
READ_ONLY: Final = {"strict": ("/",), "full": ("/usr", "/boot", "/etc"), "yes": ("/usr", "/boot")}
"""Folders that ProtectSystem= makes read-only."""


@dataclass(frozen=True)
class Unit:
    """The unit's state, and the settings of its section [Service], drop-ins included."""

    states: Mapping[str, str]
    settings: Mapping[str, Sequence[str]]
    """The words of each setting, in order."""
    name: str = NAME

    @property
    def conf(self) -> Sequence[Path]:
        """Return the folders of its configuration."""
        return list_given(self.settings.get("ExecStart", ()), "--conf") or CONF_FOLDERS

    @property
    def program(self) -> Path | None:
        """Return the program that it starts."""
        words = self.settings.get("ExecStart", ())
        return Path(words[0].lstrip("-+!@:")) if words else None

    @property
    def is_in_use(self) -> bool:
        """Return whether it runs, or is to run."""
        enabled, active = self.states.get("UnitFileState", ""), self.states.get("ActiveState", "")
        return enabled.startswith("enabled") or active not in ("", "inactive")

    @property
    def is_root(self) -> bool:
        """Return whether it runs as root."""
        is_dynamic = self._get_last("DynamicUser").lower() in ("yes", "true", "on", "1")
        return not is_dynamic and self._get_last("User") in ("", "root", "0")

    def loads(self, credential: str) -> bool:
        """Return whether it passes this credential."""
        words = [word for kind in ("Load", "Set") for word in self._list_credentials(kind)]
        named = dict(word.partition(":")[::2] for word in words)
        folders = [f"{name}_*" for name, path in named.items() if path and Path(path).is_dir()]
        globs = (*folders, *self.settings.get("ImportCredential", ()))
        return credential in named or any(fnmatch(credential, glob) for glob in globs)

    def find_missing(self, credential: str) -> str | None:
        """Return the missing file of this credential; without it relay does not start."""
        for name, _, path in (word.partition(":") for word in self._list_credentials("Load")):
            if name == credential and path.startswith("/") and not Path(path).exists():
                return path
        return None

    def sets(self, variable: str) -> bool:
        """Return whether it may have this environment variable."""
        known = [word.partition("=")[0] for word in self.settings.get("Environment", ())]
        passed = self.settings.get("PassEnvironment", ())
        return bool(self.settings.get("EnvironmentFile")) or variable in (*known, *passed)

    def explain_unreadable(self, path: Path) -> str | None:
        """Return why its user cannot read a file; None if it can. Raises OSError if unknown."""
        if (own := self._find_own_folder(path)) and path.stat().st_uid == own.stat().st_uid:
            return None  # a user that does not stay has no id of its own
        return self._explain_hidden(path) or self._explain_mode(path.resolve(), stat.S_IROTH)

    def explain_unwritable(self, path: Path) -> str | None:
        """Return why its user cannot write a file; None if it can. Raises OSError if unknown."""
        place = path.resolve()
        if self._find_own_folder(path):
            return None
        if hidden := self._explain_hidden(path):
            return hidden
        how = self._get_last("ProtectSystem")
        covers = [Path(folder) for folder in READ_ONLY.get({"true": "yes", "1": "yes"}.get(how, how), ())]
        writable = [Path(word.lstrip("-+")).resolve() for word in self.settings.get("ReadWritePaths", ())]
        if any(map(place.is_relative_to, covers)) and not any(map(place.is_relative_to, writable)):
            return f"ProtectSystem={how} in {self.name} makes it read-only"
        return self._explain_mode(find_existing(place), stat.S_IWOTH)

    def _find_own_folder(self, path: Path) -> Path | None:
        """Return the folder, of those that systemd makes for its user, in which a path is."""
        place = path.resolve()
        for name, above in FOLDERS.items():
            for word in self.settings.get(name, ()):
                folder = word.partition(":")[0]
                for own in (above / folder, above / "private" / folder):  # the latter of a user that does not stay
                    if place.is_relative_to(own.resolve()):
                        return own
        return None

    def _explain_hidden(self, path: Path) -> str | None:
        hiding = {
            "ProtectHome": (HOMES, ("yes", "true", "1", "tmpfs")),
            "PrivateTmp": (TEMPORARY, ("yes", "true", "1")),
        }
        for name, (folders, values) in hiding.items():
            if self._get_last(name) in values and any(map(path.is_relative_to, folders)):
                return f"{name}={self._get_last(name)} in {self.name} hides it"
        return None

    def _explain_mode(self, path: Path, needed: int) -> str | None:
        """Return why the mode of an existing path keeps its user out; None if the user may enter."""
        for place in (*reversed(path.parents), path):
            about = place.stat()
            through = stat.S_IXOTH if place.is_dir() else 0
            if not self._is_permitted(place, about, through | (needed if place == path else 0)):
                try:
                    owner = pwd.getpwuid(about.st_uid).pw_name
                except KeyError:
                    owner = f"user {about.st_uid}"
                return f"{place} has the mode {stat.S_IMODE(about.st_mode):o} and belongs to {owner}"
        return None

    def _is_permitted(self, place: Path, about: os.stat_result, needed: int) -> bool:
        user, groups = self._user
        if self.is_root:
            return True
        with suppress(OSError):  # not every file system has such attributes
            if "system.posix_acl_access" in os.listxattr(place):
                return True  # permissions beyond the mode, which are not read here
        shift = 6 if about.st_uid == user else 3 if about.st_gid in groups else 0
        return about.st_mode >> shift & needed == needed

    @cached_property
    def _user(self) -> tuple[int | None, set[int]]:
        """Return the ids of its user and groups, as far as known."""
        user, groups, name = None, set[int](), self._get_last("User")
        with suppress(KeyError):
            about = pwd.getpwnam(name)
            user, groups = about.pw_uid, set(os.getgrouplist(name, about.pw_gid))
        for group in (*self.settings.get("Group", ()), *self.settings.get("SupplementaryGroups", ())):
            with suppress(KeyError):
                groups.add(grp.getgrnam(group).gr_gid)
        return user, groups

    def _list_credentials(self, kind: str) -> Sequence[str]:
        names = (f"{kind}Credential", f"{kind}CredentialEncrypted")
        return [word for name in names for word in self.settings.get(name, ())]

    def _get_last(self, name: str) -> str:
        return next(reversed(self.settings.get(name, ("",))), "")


def list_given(command: Sequence[str], option: str) -> list[Path]:
    """Return the folders that a command line of relay gives by this option."""
    words = [part for word in command for part in (word.split("=", 1) if word.startswith(f"{option}=") else [word])]
    return [Path(after) for word, after in pairwise(words) if word == option]


def find_own_command() -> Path:
    """Return the command `relay` of this installation."""
    return Path(sysconfig.get_path("scripts")) / "relay"


def find_installed(name: str = NAME) -> Unit | None:
    """Return a unit; None if it is not installed, or without systemd."""
    if not (systemctl := shutil.which("systemctl")):
        return None
    try:
        states = _read_output(systemctl, "show", name, "--property", ",".join(STATES))
        text = _read_output(systemctl, "cat", name)
    except (OSError, subprocess.SubprocessError):
        return None
    found = dict(line.split("=", 1) for line in states.splitlines() if "=" in line)
    return Unit(found, read_service_settings(text), name) if found.get("LoadState") == "loaded" else None


def read_service_settings(text: str) -> Mapping[str, Sequence[str]]:
    """Return the section [Service] of concatenated unit files, merged as systemd does."""
    found, section = defaultdict[str, list[str]](list), ""
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("["):
            section = line.strip()
        elif section == "[Service]" and line[:1] not in ("#", ";") and "=" in line:
            name, _, value = line.partition("=")
            try:
                words = shlex.split(value)
            except ValueError:
                words = value.split()
            found[name.strip()] = [*found[name.strip()], *words] if value.strip() else []
    return found


def _read_output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=ANSWER_S).stdout  # noqa: S603
