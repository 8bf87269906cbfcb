"""One behaviour of a suite: an async check under a short name, which pytest sees as an ordinary test.

A behaviour runs in a loop and a thread of its own. So pytest needs no plugin, leftovers are those of the plugin under
test, and a plugin that blocks for ever fails its behaviour and not the whole run.
"""

import asyncio
import io
import logging
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar, Final

from relay.api.internal import find_closest

GRACE_S: Final = 2.0
"""Time after the limit in which a behaviour that does not block can still say where it waits."""
OWN: Final = (str(Path(__file__).parents[1]), str(Path(asyncio.__file__).parent), str(Path(threading.__file__)))

Check = Callable[..., Coroutine[Any, Any, None]]


class Lacks(Exception):
    """Report that a behaviour cannot be shown, with the reason."""


def expect(condition: object, sentence: str) -> None:
    """Fail the behaviour with a sentence unless the condition holds."""
    if not condition:
        raise AssertionError(sentence)


def behaviour(key: str, *, runs_without: bool = False) -> Callable[[Check], Any]:
    """Make a test of an async check. `key`: the short name for `lacks`.

    `runs_without`: the check also runs where the behaviour is lacking, and shows what happens instead.
    """

    def decorate(check: Check) -> Any:
        def test(self: Any, tmp_path: Path, request: Any) -> None:
            self.run(key, tmp_path, lambda reason: _print_lack(request.config, type(self).__name__, key, reason))

        test.__name__, test.__qualname__, test.__doc__ = check.__name__, check.__qualname__, check.__doc__
        test.__module__ = check.__module__
        vars(test).update(key=key, check=check, runs_without=runs_without)
        return test

    return decorate


class SuiteBase:
    """What all suites have: behaviours by their short names, lacks, and a time limit."""

    lacks: ClassVar[Mapping[str, str]]
    limit: ClassVar[float]

    def __init_subclass__(cls) -> None:
        """Raises TypeError for a lack of something that is no behaviour."""
        super().__init_subclass__()
        known = cls.behaviours()
        for key in getattr(cls, "lacks", ()):
            if key not in known:
                near = find_closest(key, known)
                hint = f"; did you mean {near}?" if near else f": {', '.join(known)}"
                raise TypeError(f"{cls.__name__}.lacks: there is no behaviour {key}{hint}")

    @classmethod
    def behaviours(cls) -> dict[str, Any]:
        """Return the tests of the suite by their short names."""
        tests = (getattr(cls, name) for name in dir(cls) if name.startswith("test_"))
        return {test.key: test for test in tests if hasattr(test, "key")}

    def run(self, key: str, folder: Path, tell: Callable[[str], None] = lambda reason: None) -> None:
        """Show one behaviour. Raises AssertionError, or what the plugin raises; calls `tell` with a declared reason.

        `folder`: an empty folder for what the plugin writes.
        """
        test = self.behaviours()[key]
        if key in self.lacks and test.runs_without:
            tell(self.lacks[key])
        elif key in self.lacks:
            return tell(self.lacks[key])
        try:
            _run_in_thread(lambda: self._show(test.check, folder), self.limit)
        except Lacks as lack:
            tell(str(lack))
        return None

    async def _show(self, check: Check, folder: Path) -> None:
        raise NotImplementedError


def _run_in_thread(show: Callable[[], Coroutine[Any, Any, None]], limit: float) -> None:
    ended = Future[None]()

    async def run() -> None:
        deadline = asyncio.timeout(limit)
        try:
            async with deadline:
                await show()
        except TimeoutError:
            if deadline.expired():
                raise AssertionError(f"the behaviour took more than {limit:g} s") from None
            raise

    def work() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            ended.set_exception(error)
        else:
            ended.set_result(None)

    # A thread that never ends must not keep pytest from ending
    thread = threading.Thread(target=work, name="behaviour", daemon=True)
    thread.start()
    thread.join(limit + GRACE_S)
    if thread.is_alive():
        where = find_place(sys._current_frames().get(thread.ident or 0))  # noqa: SLF001 - the only way to look at it
        raise AssertionError(f"the behaviour took more than {limit:g} s, and does not end: {where}")
    ended.result()


def find_place(frame: FrameType | None) -> str:
    """Return the file and line at which a thread is, in the code of the plugin rather than of the suite."""
    innermost = frame
    while frame is not None and frame.f_code.co_filename.startswith(OWN):
        frame = frame.f_back
    if frame is None:
        frame = innermost
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "it cannot be seen where"


class _Summary:
    """Prints at the end of a run what plugins lack."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        terminalreporter.section("what plugins lack")
        for line in self.lines:
            terminalreporter.line(line)


def _print_lack(config: Any, suite: str, key: str, reason: str) -> None:
    plugins = config.pluginmanager
    summary = plugins.get_plugin("relay-lacks")
    if summary is None:
        summary = _Summary()
        plugins.register(summary, "relay-lacks")
    summary.lines.append(f"{suite} lacks {key}: {reason}")


@contextmanager
def overheard() -> Iterator[Callable[[], str]]:
    """Collect the log and the output of the process."""
    heard = io.StringIO()
    handler, root = logging.StreamHandler(heard), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        with redirect_stdout(heard), redirect_stderr(heard):
            yield heard.getvalue
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
