"""What the console has launched: each launch with its files before and after, in the folder `console` of the state
folder. Blocking.

A launch is noted before anything is written, and noted again with its result. A launch without a result was cut off:
the console was killed.
"""

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from relay.console.edits.tables import Files
from relay.console.edits.write import give_to_owner, make_folder, replace_file

FOLDER: Final = "console"
"""The console's own folder in the state folder."""
KEPT: Final = 200
"""Launches that are kept, at most."""
KEPT_BYTES: Final = 32 << 20
IN_FORCE: Final = "in force"
WAITS: Final = "waits"
NAME: Final = re.compile(r"(\d{8})\.json")


class LaunchUnderWay(Exception):
    """Raised while another console of the same state folder launches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A launch."""

    number: int = 0
    at: float
    """When, in Unix seconds."""
    by: str
    subject: str
    """What has changed, such as "connector heap"."""
    folder: str
    before: Files
    """The files before the launch, by name in the folder; None: there was no such file."""
    after: Files
    connector: str | None = None
    """The connector that was launched."""
    delivered: int = 0
    """Events that the connector had delivered before."""
    result: str = ""
    """IN_FORCE; WAITS: relay did not answer, or did not run; "": the launch was cut off, or is under way."""
    said: Sequence[str] = ()
    """What came of it."""
    noted: float = 0.0
    """The time of the reload in relay's history; 0: not known."""
    undoes: int = 0
    """The number of the launch that this launch takes back; 0: none."""

    @property
    def title(self) -> str:
        """What the launch has done, in the words of relay's reload; before them, what it is about."""
        lines = (line.removeprefix("warning: ").partition(";")[0] for line in self.said)
        done = next((line for line in lines if line.startswith(f"{self.subject}: ")), self.subject)
        return f"undo of launch {self.undoes} ({done})" if self.undoes else done


class Launches:
    """The launches of a state folder."""

    def __init__(self, state: Path) -> None:
        self.folder = state / FOLDER
        self._kept = self.folder / "launches"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep out other consoles. Raises LaunchUnderWay, OSError."""
        for folder in (self.folder, self._kept):
            if not folder.exists():
                make_folder(folder)
                folder.chmod(0o700)
        path = self.folder / "lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            give_to_owner(descriptor, self.folder.stat())
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise LaunchUnderWay("another console launches at this moment: check again") from None
        finally:
            os.close(descriptor)

    def list_newest(self, most: int = KEPT) -> list[Launch]:
        """Return the newest launches, the last one first. What cannot be read is left out. Raises OSError."""
        found = (self.find(number) for number in sorted(self._list_numbers(), reverse=True)[:most])
        return [one for one in found if one is not None]

    def find(self, number: int) -> Launch | None:
        """Return a launch; None if it is not kept, or cannot be read."""
        with suppress(FileNotFoundError, msgspec.MsgspecError):
            return msgspec.json.decode(self._name(number).read_bytes(), type=Launch)
        return None

    def add(self, launch: Launch) -> Launch:
        """Note a new launch; return it with its number. Forgets the oldest ones. Raises OSError."""
        numbers = sorted(self._list_numbers())
        numbered = replace(launch, number=numbers[-1] + 1 if numbers else 1)
        self.note(numbered)
        sizes = {number: self._name(number).stat().st_size for number in numbers}
        while numbers and (len(numbers) >= KEPT or sum(map(sizes.__getitem__, numbers)) > KEPT_BYTES):
            self._name(numbers.pop(0)).unlink(missing_ok=True)
        return numbered

    def note(self, launch: Launch) -> None:
        """Note what came of a launch. Raises OSError."""
        replace_file(self._name(launch.number), msgspec.json.encode(launch))

    def forget(self, launch: Launch) -> None:
        """Forget a launch that was taken back. Raises OSError."""
        self._name(launch.number).unlink(missing_ok=True)

    def _name(self, number: int) -> Path:
        return self._kept / f"{number:08}.json"

    def _list_numbers(self) -> list[int]:
        if not self._kept.exists():
            return []
        return [int(found[1]) for found in (NAME.fullmatch(path.name) for path in self._kept.iterdir()) if found]
