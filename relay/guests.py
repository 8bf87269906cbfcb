"""How relay runs the code of plugins, its guests: whatever they raise is an error of theirs, and can be told.

How it fails and recovers: what would end relay or one of its tasks in silence (`sys.exit()`, a cancellation that nobody
asked for) becomes an `Escape`. Work that takes no notice of being cancelled is closed after HEED_S.
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
from relay.stop import STOP, left
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
    """A guest raised what is no Exception: SystemExit, KeyboardInterrupt, a cancellation of its own accord."""


class Wrong(Exception):
    """A guest gave what it must not give; the text says what."""


class Late(TimeoutError):
    """Work was not done in time."""


def encodable(text: str) -> str:
    """The text with an escape such as `\\ud83d` in place of each unpaired surrogate: UTF-8 has none, and so neither a
    database nor an answer can hold any."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def text_of(value: object) -> str:
    """What an exception, or whatever a guest gave, says as text that can be encoded: REASON_CHARS at most. Never
    raises."""
    try:
        return encodable(cut(str(value), REASON_CHARS))
    except BaseException:  # a guest's own __str__
        return "its text cannot be read: its __str__ fails"


def named(error: BaseException) -> str:
    """What an exception says, after its type. Never raises."""
    if isinstance(error, Escape):
        return text_of(error)
    name, text = type(error).__name__, text_of(error)
    return cut(f"{name}: {text}", REASON_CHARS) if text or isinstance(error, Exception) else name


def reason_of(error: BaseException) -> str:
    """What an exception says, or its type if it says nothing. Never raises."""
    return text_of(error) or type(error).__name__


def described(answer: object) -> str:
    """What a guest returned where it should not, in words. A coroutine is ended: nobody is going to await it."""
    if iscoroutine(answer):
        answer.close()
        return "a coroutine (it has to be a plain function, not async)"
    return (
        repr(answer) if answer is None or isinstance(answer, bool) else f"an object of the type {type(answer).__name__}"
    )


def kind_of(error: BaseException) -> str:
    """The type of an exception, of an Escape that of what escaped."""
    return type(error.__cause__ or error).__name__ if isinstance(error, Escape) else type(error).__name__


def place_of(error: BaseException) -> str:
    """Where an exception was raised, TRACE_CHARS at most, without what it says."""
    at = error.__cause__ if isinstance(error, Escape) and error.__cause__ else error
    return encodable("".join(traceback.format_tb(at.__traceback__))[:TRACE_CHARS])


def trace_of(error: BaseException) -> str:
    """The traceback of an exception, TRACE_CHARS at most. Never raises."""
    try:
        return encodable("".join(traceback.format_exception(error))[:TRACE_CHARS])
    except BaseException:  # of what the exception refers to, much is a guest's
        return named(error)


class contained:  # noqa: N801  used as a function, as those of contextlib are
    """Inside, a guest's code runs: what it raises leaves as an Exception, unless somebody else cancels the task."""

    _until_ctrl_c = False

    def __init__(self, *, until_ctrl_c: bool = False) -> None:
        """`until_ctrl_c`: a KeyboardInterrupt of the main thread is the user's, and ends the command."""
        self._until_ctrl_c = until_ctrl_c

    def __enter__(self) -> None:
        """Nothing has to be done before."""

    def __exit__(self, _: object, error: BaseException | None, __: TracebackType | None) -> None:
        """Raises Escape."""
        is_user = self._until_ctrl_c and isinstance(error, KeyboardInterrupt) and current_thread() is main_thread()
        if error is not None and not is_user and (other := escaped(error)) is not error:
            raise other from error


class quick(contained):  # noqa: N801  used as a function
    """The same for a call on the event loop: the log tells if it was blocked for BLOCKED_S or more."""

    def __init__(self, call: str, **whose: str) -> None:
        """`call` is the method's name, `whose` names its plugin's table, such as `source="braze"`."""
        self._call, self._whose = call, whose

    def __enter__(self) -> None:
        """Look at the clock."""
        self._began = perf_counter()

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        """Raises Escape."""
        if (seconds := perf_counter() - self._began) >= BLOCKED_S:
            tell_blocked(self._call, seconds, **self._whose)
        super().__exit__(kind, error, trace)


def tell_blocked(call: str, seconds: float, **whose: str) -> None:
    """Log that a guest's call has held up the event loop. Where `quick` costs too much, whoever calls a guest compares
    the time with BLOCKED_S."""
    import structlog  # late: `relay check` does without it

    log = structlog.stdlib.get_logger()
    log.warning("a plugin held up relay", **whose, call=call, seconds=round(seconds, 3), advice=BLOCKED_ADVICE)


def is_on_loop() -> bool:
    """Whether an event loop waits for the code that asks: not in a thread, nor in most commands."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def stepped(work: Callable[[], Awaitable[T]], call: str, **whose: str) -> T:
    """Do a guest's work; the log tells if it holds up the event loop for BLOCKED_S or more between two awaits. What it
    has tasks of its own do is not seen."""
    return await _Steps(_begun(work), call, whose)


async def _begun(work: Callable[[], Awaitable[T]]) -> T:
    return await work()


class _Steps(Generic[T]):
    """Awaits work as `await` does, with a look at the clock around each of its steps."""

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
                    tell_blocked(self._call, seconds, **self._whose)
            try:
                yield waits_for
                thrown = None
            except BaseException as error:  # a cancellation, for one: it is the work's
                thrown = error


def escaped(error: BaseException) -> BaseException:
    """What counts of what a guest raised: an Escape for all that is no Exception, unless somebody else cancels the
    task."""
    if isinstance(error, Exception) or (isinstance(error, asyncio.CancelledError) and _is_cancelled()):
        return error
    escape = Escape(f"{named(error)} (a plugin must not raise that)")
    escape.__cause__ = error
    return escape


def _is_cancelled() -> bool:
    """Whether somebody wants the task to end."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # in a thread
        return False
    return task is not None and task.cancelling() > 0


def is_same(one: object, other: object) -> bool:
    """Whether two values are equal, of which parts may be a guest's: what cannot be compared is another value."""
    try:
        with contained():
            return bool(one == other)
    except Exception:
        return False


async def limited(work: Callable[[], Awaitable[T]], seconds: float, name: str, heed: float | None = None) -> T:
    """Have a guest's work done in a task of its own, in so many seconds. It ends in time or is told to end, also if
    this is cancelled, and has `heed` seconds for that (None: HEED_S, less at a stop). What it returns or raises then
    does not count.

    Raises Late, and what the guest raises, which is an Exception."""
    task = asyncio.get_running_loop().create_task(_done(work, seconds), name=name)  # a TaskGroup would wait for it
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


def called(
    work: Callable[[], Awaitable[T]], call: str, whose: Mapping[str, str], seconds: float, heed: float | None = None
) -> Coroutine[Any, Any, T]:
    """Have a guest's method do its work: `stepped`, and `limited` to so many seconds. `whose` is what the log says of
    the guest, its own kind and name last."""
    *_, (kind, name) = whose.items()
    return limited(partial(stepped, work, call, **whose), seconds, f"{kind} {name}: {call}", heed)


async def _done(work: Callable[[], Awaitable[T]], seconds: float) -> T:
    DEADLINE.set(time.monotonic() + seconds)  # in the task's own context
    try:
        return await work()
    except BaseException as error:
        if (other := escaped(error)) is error:
            raise
        raise other from error


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Who has given up on it does not ask for its exception: asyncio would log that."""
    if not task.cancelled():
        task.exception()


async def _end(task: asyncio.Task[Any], heed: float | None) -> None:
    task.add_done_callback(_retrieve)
    task.cancel()
    until = time.monotonic() + (HEED_S if heed is None else heed)
    try:
        while not task.done() and (rest := left(until if heed is not None else min(until, STOP.heeded))):
            await asyncio.wait((task,), timeout=min(rest, LOOK_S))
    finally:
        if not task.done():
            with suppress(BaseException):  # whatever it says to that
                cast("Coroutine[Any, Any, Any]", task.get_coro()).close()
            task.cancel()  # wakes it: it finds its coroutine closed
