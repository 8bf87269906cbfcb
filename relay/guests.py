"""Runs the code of plugins, its guests. Whatever a guest raises is an error of the guest, and can be logged.

How it fails and recovers: `sys.exit()`, or a cancellation of the guest's own, would end relay or a task in silence.
Each becomes an `Escape`. Work that ignores its cancellation is closed after HEED_S.
"""

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from contextlib import suppress
from functools import partial
from inspect import iscoroutine
from threading import current_thread, main_thread
from time import perf_counter
from types import TracebackType
from typing import Any, Final, Generic, TypeVar, cast

from relay.api.internal import DEADLINE, cut
from relay.stop import STOP, count_seconds_left
from relay.words import REASON_CHARS

T = TypeVar("T")

HEED_S: Final = 1.0
"""Seconds that work has to end after it was cancelled; less at a stop."""
LOOK_S: Final = 0.05
"""How soon it is noticed that a stop has begun."""
TRACE_CHARS: Final = 20_000
"""Of a traceback that is logged."""
BLOCKED_S: Final = 0.1
"""Seconds for which a guest's call may hold up the event loop before the log says so."""
BLOCKED_ADVICE: Final = "a plugin must not block: no requests, files or sleeps in this call, and less work"


class Escape(Exception):
    """A guest raised no Exception: SystemExit, KeyboardInterrupt, or a cancellation of its own accord."""


class Wrong(Exception):
    """A guest gave something that it must not give; the text says what."""


class Late(TimeoutError):
    """Work was not done in time."""


def escape_surrogates(text: str) -> str:
    """Replace each unpaired surrogate by an escape such as `\\ud83d`. UTF-8 has no surrogates, so no database or answer
    can hold them."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def read_text(value: object) -> str:
    """Return the text of an exception, or of a guest's value, in a form that can be encoded. Cut it to REASON_CHARS.
    Never raises."""
    try:
        return escape_surrogates(cut(str(value), REASON_CHARS))
    except BaseException:  # a guest's own __str__
        return "its text cannot be read: its __str__ fails"


def name_error(error: BaseException) -> str:
    """Return the type of an exception and its text. Never raises."""
    if isinstance(error, Escape):
        return read_text(error)
    name, text = type(error).__name__, read_text(error)
    return cut(f"{name}: {text}", REASON_CHARS) if text or isinstance(error, Exception) else name


def find_reason(error: BaseException) -> str:
    """Return the text of an exception, or its type if it has no text. Never raises."""
    return read_text(error) or type(error).__name__


def describe_answer(answer: object) -> str:
    """Describe a wrong return value of a guest. Close a coroutine: nobody is going to await it."""
    if iscoroutine(answer):
        answer.close()
        return "a coroutine (it has to be a plain function, not async)"
    return (
        repr(answer) if answer is None or isinstance(answer, bool) else f"an object of the type {type(answer).__name__}"
    )


def find_type_name(error: BaseException) -> str:
    """Return the name of an exception's type; for an Escape, of the type that escaped."""
    return type(error.__cause__ or error).__name__ if isinstance(error, Escape) else type(error).__name__


def format_place(error: BaseException) -> str:
    """Format where an exception was raised, without its text, in TRACE_CHARS at most."""
    at = error.__cause__ if isinstance(error, Escape) and error.__cause__ else error
    return escape_surrogates("".join(traceback.format_tb(at.__traceback__))[:TRACE_CHARS])


def format_trace(error: BaseException) -> str:
    """Format the traceback of an exception, in TRACE_CHARS at most. Never raises."""
    try:
        return escape_surrogates("".join(traceback.format_exception(error))[:TRACE_CHARS])
    except BaseException:  # of what the exception refers to, much is a guest's
        return name_error(error)


class contained:  # noqa: N801  used as a function, as those of contextlib are
    """Run a guest's code inside. It raises Exceptions only, unless somebody else cancels the task."""

    _until_ctrl_c = False

    def __init__(self, *, until_ctrl_c: bool = False) -> None:
        """`until_ctrl_c`: a KeyboardInterrupt of the main thread comes from the user, and ends the command."""
        self._until_ctrl_c = until_ctrl_c

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, _: object, error: BaseException | None, __: TracebackType | None) -> None:
        """Raises Escape."""
        is_user = self._until_ctrl_c and isinstance(error, KeyboardInterrupt) and current_thread() is main_thread()
        if error is not None and not is_user and (other := wrap_escape(error)) is not error:
            raise other from error


class quick(contained):  # noqa: N801  used as a function
    """Run a guest's call on the event loop, and log a call that takes BLOCKED_S or more."""

    def __init__(self, call: str, **whose: str) -> None:
        """`call` is the method's name, `whose` names its plugin's table, such as `source="braze"`."""
        self._call, self._whose = call, whose

    def __enter__(self) -> None:
        """Note the time."""
        self._began = perf_counter()

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        """Raises Escape."""
        if (seconds := perf_counter() - self._began) >= BLOCKED_S:
            warn_blocked(self._call, seconds, **self._whose)
        super().__exit__(kind, error, trace)


def warn_blocked(call: str, seconds: float, **whose: str) -> None:
    """Log that a guest's call has held up the event loop. Where `quick` costs too much, the caller compares the time
    with BLOCKED_S."""
    import structlog  # late: `relay check` does without it

    log = structlog.stdlib.get_logger()
    log.warning("a plugin held up relay", **whose, call=call, seconds=round(seconds, 3), advice=BLOCKED_ADVICE)


def is_on_loop() -> bool:
    """Return whether an event loop runs the caller. In a thread and in most commands none does."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def run_stepwise(work: Callable[[], Awaitable[T]], call: str, **whose: str) -> T:
    """Do a guest's work. Log each step between two awaits that holds up the event loop for BLOCKED_S or more. Tasks of
    the guest's own are not timed."""
    return await _Steps(_begin(work), call, whose)


async def _begin(work: Callable[[], Awaitable[T]]) -> T:
    return await work()


class _Steps(Generic[T]):
    """Awaits work as `await` does, and times each of its steps."""

    def __init__(self, work: Awaitable[T], call: str, whose: Mapping[str, str]) -> None:
        self._work, self._call, self._whose = work, call, whose

    def __await__(self) -> Generator[Any, Any, T]:
        steps, thrown = self._work.__await__(), None
        while True:
            began = perf_counter()
            try:
                waits_for = next(steps) if thrown is None else steps.throw(thrown)
            except StopIteration as done:
                return cast("T", done.value)
            finally:
                if (seconds := perf_counter() - began) >= BLOCKED_S:
                    warn_blocked(self._call, seconds, **self._whose)
            try:
                yield waits_for
                thrown = None
            except BaseException as error:  # a cancellation, for one: it is the work's
                thrown = error


def wrap_escape(error: BaseException) -> BaseException:
    """Return an error of a guest, or an Escape for an error that is no Exception. A cancellation by somebody else stays
    as it is."""
    if isinstance(error, Exception):
        return error
    if isinstance(error, asyncio.CancelledError):
        with suppress(RuntimeError):  # in a thread there is no task
            task = asyncio.current_task()
            if task is not None and task.cancelling() > 0:
                return error
    escape = Escape(f"{name_error(error)} (a plugin must not raise that)")
    escape.__cause__ = error
    return escape


def is_same(one: object, other: object) -> bool:
    """Return whether two values are equal. Values with parts of a guest that cannot be compared are different."""
    try:
        with contained():
            return bool(one == other)
    except Exception:
        return False


async def run_limited(work: Callable[[], Awaitable[T]], seconds: float, name: str, heed: float | None = None) -> T:
    """Run a guest's work in a task of its own for at most `seconds`. Cancel late work, also if the caller is cancelled.

    Cancelled work has `heed` seconds to end (None: HEED_S, less at a stop). Its result then does not count. Raises
    Late, and every Exception of the guest."""
    task = asyncio.get_running_loop().create_task(
        _run_contained(work, seconds), name=name
    )  # a TaskGroup would wait for it
    try:
        await asyncio.wait((task,), timeout=seconds)
    except asyncio.CancelledError:
        await _end(task, heed)
        raise
    if not task.done():
        await _end(task, heed)
        raise Late
    if task.cancelled():
        raise Escape("CancelledError: the work has cancelled itself (a plugin must not do that)")
    return task.result()


def call_guest(
    work: Callable[[], Awaitable[T]], call: str, whose: Mapping[str, str], seconds: float, heed: float | None = None
) -> Coroutine[Any, Any, T]:
    """Call a guest's method by `run_stepwise`, within `run_limited`. `whose` names the guest in the log. The last item
    of `whose` is the guest's kind and name."""
    *_, (kind, name) = whose.items()
    return run_limited(partial(run_stepwise, work, call, **whose), seconds, f"{kind} {name}: {call}", heed)


async def _run_contained(work: Callable[[], Awaitable[T]], seconds: float) -> T:
    DEADLINE.set(time.monotonic() + seconds)  # in the task's own context
    try:
        return await work()
    except BaseException as error:
        if (other := wrap_escape(error)) is error:
            raise
        raise other from error


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Take the exception of abandoned work, so that asyncio does not log it."""
    if not task.cancelled():
        task.exception()


async def _end(task: asyncio.Task[Any], heed: float | None) -> None:
    task.add_done_callback(_retrieve)
    task.cancel()
    until = time.monotonic() + (HEED_S if heed is None else heed)
    try:
        while not task.done() and (rest := count_seconds_left(until if heed is not None else min(until, STOP.heeded))):
            await asyncio.wait((task,), timeout=min(rest, LOOK_S))
    finally:
        if not task.done():
            with suppress(BaseException):  # whatever it says to that
                cast("Coroutine[Any, Any, Any]", task.get_coro()).close()
            task.cancel()  # wakes it: it finds its coroutine closed
