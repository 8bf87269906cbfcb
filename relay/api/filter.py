"""The base of every filter: one event in; the same, a changed one, several, or nothing out."""

from collections.abc import Callable, Sequence
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any, ClassVar, TypeVar, TypeVarTuple

from pydantic import Field

from relay.api.event import Event
from relay.api.plugin import Plugin
from relay.api.settings import Duration, Settings
from relay.api.threads import release

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class FilterSettings(Settings):
    """Settings of every filter. A filter type adds its own."""

    type: str
    """Type of the filter: a type below, or the type of a plugin."""
    open_timeout: Duration = Field(default=30.0, gt=0, le=3600)
    """How long the filter may take to get ready. After that it has failed, and relay tries again."""


class Filter(Plugin):
    """A named step in a connector's chain of filters.

    Subclass it with a type name, and write `apply`, or `apply_all` for many events at once. Each connector has an
    object of its own, for live events, replays and parked events.
    """

    Settings: ClassVar[type[Settings]] = FilterSettings
    _noun: ClassVar[str] = "filter"
    stateful: ClassVar[bool] = False
    """Whether the result depends on more than the event and the settings: earlier events, the time, a file. `relay
    trace` then says that it cannot know."""
    emitted_types: ClassVar[tuple[str, ...]] = ()
    """The event types that the filter gives to events, for `relay check`."""

    folder: Path
    """relay's state folder, from `open` on. Relative paths in settings start here."""
    notice: str = ""
    """A sentence for admins on something that stops no event. The filter sets it, and `relay status` shows it."""

    def __init_subclass__(cls, type: str = "", **options: Any) -> None:
        super().__init_subclass__(type=type, **options)
        if type and cls.apply is Filter.apply and cls.apply_all is Filter.apply_all:
            raise TypeError(f"filter type {type}: {cls.__name__} needs a method `def apply(self, event)`")
        for name in ("apply", "apply_all"):
            if iscoroutinefunction(getattr(cls, name)):
                raise TypeError(f"filter type {type}: {cls.__name__}.{name} has to be a plain function, not async")
        for name in ("open", "close"):
            if not iscoroutinefunction(getattr(cls, name)):
                raise TypeError(f"filter type {type}: {cls.__name__}.{name} has to be async")

    def __init__(self, name: str, settings: FilterSettings) -> None:
        self.name = name
        self.settings = settings

    async def run_blocking(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Run work that blocks, such as reading a file in `open`, in the filter's own thread; return its result."""
        return await self._threads.run(work, *arguments)

    async def open(self) -> None:
        """Get ready, before the connector's first event. `relay check` and `relay trace` do not call it.

        It may take `open_timeout` seconds, and may be cancelled at any await. If it raises, the connector's events
        wait: relay calls `close`, and `open` again some seconds later.
        """

    def apply(self, event: Event) -> Event | list[Event] | None:
        """Return the event, a changed event, a list of events to split it, or None to drop it.

        Change an event with `event.with_data` or `event.with_type`. Do not block: no I/O that waits. Parts with the
        same id get ids of their own: the second "a" becomes "a-2". An event makes at most 1,000 parts, with 16 MiB more
        than its own size. If `apply` raises or returns anything else, relay parks the event for this connector with the
        cause `filter`.
        """
        (made,) = self.apply_all([event])
        return made

    def apply_all(self, events: Sequence[Event]) -> Sequence[Event | list[Event] | None]:
        """Return for each of several events what `apply` returns, in the order of the events.

        Override it instead of `apply` where many events at once are quicker, such as for a model. The events are at
        most 1,000, with 1 MiB and one event more. If it raises, or returns another number of results, relay calls it
        with each event alone: only events that fail alone are parked.
        """
        return [self.apply(event) for event in events]

    async def close(self) -> None:
        """Release everything, after the connector's last event or after a failed `open`."""

    async def release(self) -> None:
        """Close the filter and its thread. relay calls it; override `close` instead."""
        await release(vars(self), self.close, lambda: self.log.error("filter is not closed: its thread hangs"))
