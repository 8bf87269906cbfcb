"""Events through a filter, as relay would send them."""

from relay.api import Event, Filter
from relay.route import Failed, chained
from relay.testing.build import make_batch


def filtered(step: Filter, body: bytes, *, source: str = "braze") -> list[Event]:
    """What a connector behind this filter gets of an event: nothing if it is dropped, several if it is split.

    Raises ValueError with the reason for which relay would park the event instead.
    """
    (event,) = make_batch([body], source=source)
    made = chained([step], event)
    if isinstance(made, Failed):
        raise ValueError(made.reason)  # noqa: TRY004
    return [] if made is None else [made] if isinstance(made, Event) else [*made]
