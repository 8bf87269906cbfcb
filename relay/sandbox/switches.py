"""Switches: the behaviour of a stand-in where the documentation leaves a choice, or where a test wants another.

Each switch is a field with its range and one sentence. The command line has an option for every switch. The side door
`/_sandbox/switches` shows and changes the switches while the stand-in runs.
"""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Share = Annotated[float, Field(ge=0, le=1)]
"""A share, from 0 (never) to 1 (always)."""
Seconds = Annotated[float, Field(ge=0)]


class Switches(BaseModel):
    """A set of switches. It never changes; `replace` makes another."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def replace(self, **given: Any) -> Self:
        """Return the switches with new values for some. Raises ValueError for an unknown switch or a wrong value."""
        try:
            return type(self).model_validate(self.model_dump() | given)
        except ValidationError as error:
            mistakes = error.errors(include_url=False)
            found = (f"{'.'.join(map(str, mistake['loc']))}: {mistake['msg']}" for mistake in mistakes)
            raise ValueError("; ".join(found)) from None


class ServerSwitches(Switches):
    """Switches of every stand-in that answers requests."""

    fail: Share = Field(0.0, description="Share of requests that fail.")
    fail_status: int = Field(503, ge=200, le=599, description="... and what they are answered.")
    fail_applied: bool = Field(False, description="... though they have their effect.")
    slow: Seconds = Field(0.0, description="Real seconds before it looks at a request.")
