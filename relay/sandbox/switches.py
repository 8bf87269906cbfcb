"""Switches: how a stand-in behaves where the documentation leaves a choice, or where a test wants another mood.

Each is a field with its range and one sentence on what it does. The command line has an option for every one of them,
and the side door `/_sandbox/switches` shows and changes them while the stand-in runs.
"""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Share = Annotated[float, Field(ge=0, le=1)]
"""From 0, never, to 1, always."""
Seconds = Annotated[float, Field(ge=0)]


class Switches(BaseModel):
    """Some of them, as they are set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def changed(self, **given: Any) -> Self:
        """The same with some of them set anew. Raises ValueError for what does not exist or cannot be set so."""
        try:
            return type(self).model_validate(self.model_dump() | given)
        except ValidationError as error:
            found = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_url=False))
            raise ValueError("; ".join(found)) from None


class ServerSwitches(Switches):
    """Of everything that answers requests."""

    fail: Share = Field(0.0, description="Share of requests that fail.")
    fail_status: int = Field(503, ge=200, le=599, description="... and what they are answered.")
    fail_applied: bool = Field(False, description="... though they have their effect.")
    slow: Seconds = Field(0.0, description="Real seconds before it looks at a request.")
