"""The base of every filter: one event in; the same, a changed one, or nothing out."""

from typing import ClassVar

from relay.api.event import Event
from relay.api.plugin import Plugin
from relay.api.settings import Settings


class FilterSettings(Settings):
    """Settings of every filter; a filter type adds its own."""

    type: str


class Filter(Plugin):
    """A named step of a connector's chain. Filters are plain, synchronous and quick: no I/O."""

    Settings: ClassVar[type[Settings]] = FilterSettings
    stateful: ClassVar[bool] = False
    """Whether what it makes of an event depends on more than the event and its settings: on events before, the time, a
    file. `relay trace` then says that it cannot know."""

    def __init__(self, name: str, settings: FilterSettings) -> None:
        self.name = name
        self.settings = settings

    def apply(self, event: Event) -> Event | None:
        """Return the event to keep it, `event.with_data(...)` to replace it, None to drop it.

        An exception parks the event for this connector and is counted against the filter.
        """
        raise NotImplementedError
