"""The filter type `sample`: a share of the events, the same events each time."""

from collections.abc import Iterator
from hashlib import blake2b

from pydantic import Field

from relay.api import Contradiction, Event, Filter, FilterSettings
from relay_plugins.filters.field import FieldPath, describe_typos, find_values


class Sample(Filter, type="sample"):
    """Keeps a share of the events. Events with the same key are all kept or all dropped."""

    class Settings(FilterSettings):
        """The share of the events, and the field that decides."""

        rate: float = Field(ge=0, le=1)
        """The share that is kept: 0 is nothing, 1 is everything."""
        key: FieldPath = ("user", "user_id")
        """The field that decides. For an event without the field, its id decides."""
        seed: str = ""
        """Another seed chooses other keys."""

        def warnings(self) -> Iterator[Contradiction]:
            """Yield a key that is probably a typo."""
            yield from describe_typos("key", [self.key])

    settings: Settings

    def apply(self, event: Event) -> Event | None:
        """Return the event if its key is in the share; else None."""
        found = (value for value in find_values(event.data, self.settings.key) if value is not None)
        key = next(found, None)
        digest = blake2b(f"{self.settings.seed}\0{event.id if key is None else key}".encode(), digest_size=8).digest()
        return event if int.from_bytes(digest, "big") < self.settings.rate * 2**64 else None
