"""The settings of a table [test.NAME]."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field

from relay.api import Contradiction, Settings

FORM: Final = "expected a dotted path such as user.external_user_id"
Expected = Literal["delivered", "unselected", "filtered", "parked"]


class RouteTestSettings(Settings):
    """An event, and what connectors are expected to make of it. `relay test` tries the event, and delivers nothing."""

    sample: str = ""
    """Event type of a made-up event, such as `"users.messages.email.Open"`. The event has the fields that Braze sends.

    Set either `sample`, `event` or `file`. The event is the same each time, but for its time. Retired event types have
    no made-up event.
    """
    event: str = ""
    """The event as JSON, such as `'{"event_type": "users.behaviors.Purchase", "id": "1"}'`."""
    file: Path | None = None
    """File of events, such as `"events.ndjson"`. The test tries each event. A relative path starts at the folder of
    conf.d.

    The file has NDJSON, a JSON array, `{"events": [...]}` or one event.
    """
    given: dict[str, Any] = Field(default_factory=dict, alias="with")
    """Fields that are set in the event first, such as `{ "user.external_user_id" = "u-1" }`."""
    expect: dict[str, Expected] = Field(default_factory=dict)
    """What becomes of the event in each connector, such as `{ heap = "unselected", archive = "delivered" }`.

    - `"delivered"`: the connector gets the event. Whether its destination takes the event is not tried.
    - `"unselected"`: `events` of the connector leaves the event out.
    - `"filtered"`: a filter drops the event.
    - `"parked"`: a filter cannot handle the event.

    A connector with `enabled = false` is tried as if it were enabled.
    """
    without: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Fields that the event lacks when a connector gets it, such as `{ heap = ["properties.email_address"] }`. `*` in a
    path stands for any name or list element."""
    fields: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Values of fields when a connector gets the event, such as `{ heap = { "properties.campaign_name" = "Spring" } }`.

    If filters split the event, `without` and `fields` are about each part.
    """

    @property
    def expected(self) -> Mapping[str, Expected]:
        """What becomes of the event, by connector: `without` and `fields` expect that it is delivered."""
        outcomes: dict[str, Expected] = dict.fromkeys((*self.without, *self.fields), "delivered")
        return outcomes | self.expect

    def contradictions(self) -> Iterator[Contradiction]:
        """Yield events too many or too few, and expectations that nothing can meet."""
        if (bool(self.sample), bool(self.event), self.file is not None).count(True) != 1:
            yield "sample event file", "set either sample, event or file"
        if self.event and (reason := explain_unreadable(self.event)):
            yield "event", f"event {reason}"
        if not self.expected:
            yield "expect without fields", "expects nothing: set expect, without or fields"
        for setting, paths in (("with", self.given), ("without", self.without), ("fields", self.fields)):
            for path in paths if setting == "with" else [path for one in paths.values() for path in one]:
                if not all(path.split(".")) or ("*" in path.split(".") and setting != "without"):
                    yield setting, f"{setting}: {FORM}, got {path!r}"
        for setting, names in (("without", self.without), ("fields", self.fields)):
            for name in names:
                if self.expected[name] != "delivered":
                    reason = f'is about a delivered event, and expect has {name} = "{self.expected[name]}"'
                    yield f"{setting} expect", f"{setting} {reason}"


def explain_unreadable(event: str | bytes) -> str:
    """Explain why this is no event; "": it is one."""
    try:
        read = json.loads(event)
    except (ValueError, RecursionError) as error:
        return f"is no JSON: {error}"
    if not isinstance(read, dict):
        return "is no JSON object"
    return "" if read.get("event_type") and isinstance(read["event_type"], str) else "has no event_type"
