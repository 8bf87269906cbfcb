"""The base of every filter: one event in; the same, a changed one, several, or nothing out."""

from collections.abc import Callable
from functools import cached_property
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any, ClassVar, TypeVar, TypeVarTuple

from pydantic import Field

from relay.api.blocking import Threads, release
from relay.api.event import Event
from relay.api.plugin import Plugin
from relay.api.settings import Duration, Settings

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class FilterSettings(Settings):
    """Settings of every filter; a filter type adds its own."""

    type: str
    """Type of the filter: a type below, or the type of a plugin."""
    open_timeout: Duration = Field(default=30.0, gt=0, le=3600)
    """How long the filter may take to get ready. After that it has failed, and relay tries again."""


class Filter(Plugin):
    """A named step of a connector's chain. Each connector that names it has an object of its own.

    That object serves the connector's lane, the replays beside it, and parked events that are sent again.
    """

    Settings: ClassVar[type[Settings]] = FilterSettings
    _noun: ClassVar[str] = "filter"
    stateful: ClassVar[bool] = False
    """Whether what it makes of an event depends on more than the event and its settings: on events before, the time, a
    file. `relay trace` then says that it cannot know."""
    makes: ClassVar[tuple[str, ...]] = ()
    """The event types that it gives to events, for `relay check`."""

    folder: Path
    """relay's state folder, from `open` on; relative paths in settings start here."""

    def __init_subclass__(cls, type: str = "", **options: Any) -> None:
        super().__init_subclass__(type=type, **options)
        if iscoroutinefunction(cls.apply):
            raise TypeError(f"filter type {type}: {cls.__name__}.apply has to be a plain function, not async")
        for name in ("open", "close"):
            if not iscoroutinefunction(getattr(cls, name)):
                raise TypeError(f"filter type {type}: {cls.__name__}.{name} has to be async")

    def __init__(self, name: str, settings: FilterSettings) -> None:
        self.name = name
        self.settings = settings

    @cached_property
    def _threads(self) -> Threads:
        return Threads(f"filter {self.name}", 1)

    async def run_blocking(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Do work that blocks, such as reading a file in `open`, in a thread of the filter's own; return what it
        returns."""
        return await self._threads.run(work, *arguments)

    async def open(self) -> None:
        """Get ready; called before the lane's first event. `relay check` and `relay trace` make the filter and do not
        open it.

        It may take `open_timeout`, and may be cancelled at any await. An exception is told with its text, and holds up
        this lane alone: `close` is called and, some seconds later, `open` once more."""

    def apply(self, event: Event) -> Event | list[Event] | None:
        """Return the event to keep it, `event.with_data(...)` or `event.with_type(...)` to replace it, a list of such
        events to split it, None or an empty list to drop it. Plain, synchronous and quick: no I/O that waits.

        Parts that have the same id get ids of their own: the second one with the id "a" becomes "a-2". An event makes
        at most 1,000 parts, with 16 MiB more than it has itself. An exception, or anything else that is returned, parks
        the event for this connector and is counted against the filter.
        """
        raise NotImplementedError

    async def close(self) -> None:
        """Let go of everything; called after the lane's last event, and after an `open` that failed."""

    async def release(self) -> None:
        """Close the filter and its thread. relay calls this; a filter overrides `close`."""
        await release(vars(self), self.close, lambda: self.log.error("filter is not closed: its thread hangs"))
