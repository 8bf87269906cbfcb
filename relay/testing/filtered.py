"""Events through a filter, as relay would send them."""

from relay.api import Event, Filter
from relay.route import Failed, apply_chain
from relay.testing.build import make_batch


def filtered(step: Filter, body: bytes, *, source: str = "braze") -> list[Event]:
    """Return the events that a connector gets for an event: no event if `step` drops it, several if `step` splits it.

    `body`: the bytes of the event, as for `make_batch`. Raises ValueError, with the reason, if relay would park the
    event.
    """
    (event,) = make_batch([body], source=source)
    made = apply_chain([step], event)
    if isinstance(made, Failed):
        raise ValueError(made.reason)  # noqa: TRY004
    return [] if made is None else [made] if isinstance(made, Event) else [*made]
