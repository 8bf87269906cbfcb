"""Opens filters for a look at what they would do, beside those of a running connector."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from relay.api import Filter
from relay.config import Config, ConfigError, NotMade, Redaction, make_filters, make_mistakes
from relay.guests import call_guest, find_reason


@asynccontextmanager
async def open_filters(config: Config, connector: str, state: Path) -> AsyncIterator[Sequence[Filter]]:
    """Open filters of its own for a connector. `state`: the state folder. Raises OSError."""
    try:
        filters = make_filters(config, connector, state)
    except NotMade as error:
        raise OSError(str(ConfigError(make_mistakes(error.failures)))) from None
    async with AsyncExitStack() as opened:
        for step in filters:
            opened.push_async_callback(_release, step)
            try:
                await call_guest(step.open, "open", {"filter": step.name}, step.settings.open_timeout)
            except Exception as error:
                why = Redaction(step.settings).clean(find_reason(error))
                raise OSError(f"filter {step.name} does not open: {why}") from None
        yield filters


async def _release(step: Filter) -> None:
    try:
        await call_guest(step.release, "close", {"filter": step.name}, step.settings.open_timeout)
    except Exception:
        await asyncio.sleep(0)  # the process ends
