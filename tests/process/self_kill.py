"""Programs that kill themselves before a given step: how a test runs one, and how such a program runs its orders.

An order is a line of JSON: the folder, before which step to die (0: never), and what else the program wants to know.
Its answer is one, too: how the child ended, and the names of its steps.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Harness:
    """The program that dies on demand."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(self, folder: Path, die_at: int = 0, **order: bool | str) -> tuple[bool, list[str]]:
        """Whether it was killed, and its steps until then."""
        folder.mkdir(exist_ok=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"folder": str(folder), "die_at": die_at, **order}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        assert answer["code"] in (0, -9), (die_at, answer["steps"][-5:])
        return answer["code"] == -9, answer["steps"]


@contextmanager
def harness(program: str) -> Iterator[Harness]:
    """Run the program of that name in this folder."""
    path = Path(__file__).with_name(program)
    with subprocess.Popen([sys.executable, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as it:
        try:
            yield Harness(it)
        finally:
            assert it.stdin is not None
            it.stdin.close()


def obey(child: Callable[[dict[str, Any]], None]) -> None:
    """Be such a program: fork for each order, and tell how that ended."""
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if not pid:
            code = 1
            try:
                child(order)
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        steps = (Path(order["folder"]) / "steps").read_text().splitlines()
        print(json.dumps({"code": os.waitstatus_to_exitcode(status), "steps": steps}), flush=True)
