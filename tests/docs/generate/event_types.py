"""docs/reference/event-types.md: the catalogue of event types, by group."""

from collections.abc import Iterator
from typing import Final

from relay.catalogue import TYPES
from tests.docs.generate.builtin import builtin
from tests.docs.generate.markdown import code, document, table

GROUPS: Final = {
    "message_engagement": "What became of a message: for instance sent, delivered, opened, clicked, bounced.",
    "customer_behavior": "What a user did: for instance a session, a purchase, a custom event.",
    "user": "What changed in the profile of a user.",
}
"""What the types of each group tell. The groups are Braze's own words; the channels are relay's."""
INTRO: Final = """
This page lists every event type that relay knows. The setting
[`events`](configuration.md#every-connector) selects from them.

```sh
relay events                               # this list
relay events email                         # the types of one channel
relay events --events email --events '!*.Open'   # the types that a selection takes, and by which entry
```

An entry of `events` is a group, a channel, a type, or a glob over types. A leading `!` excludes.

Braze adds event types every month. relay takes them, and `events` can name them, before this list has them. The first
parts of the name of an unlisted type say its group and its channel. For example, the group of
`users.messages.fax.Send` is `message_engagement`, and its channel is `fax`. The entry `unknown` stands for all unlisted
types.

Braze does not send types with the status `retired` any more. Old data may still have them.
"""
OWN: Final = """
Sources make these types. `*` does not select them. A connector selects such a type if its `events` name it, or if the
type of the connector is made for it, such as [`braze_cohorts`](configuration.md#connector-braze_cohorts).
"""


def page() -> str:
    """Make the page."""
    return document("Event types", "relay/catalogue/types.csv", _parts())


def _parts() -> Iterator[str]:
    yield INTRO
    for group in dict.fromkeys(known.group for known in TYPES.values()):
        yield f"## {group}"
        yield GROUPS[group]
        of_group = sorted((known.channel, name, known.status) for name, known in TYPES.items() if known.group == group)
        yield table(
            ["channel", "event type", "status"],
            [(code(channel), code(name), status) for channel, name, status in of_group],
        )
    yield "## Types of relay's own sources"
    yield OWN
    made = [(code(name), code(source.type)) for source in builtin("source").values() for name in source.emitted_types]
    yield table(["event type", "source type"], made)
