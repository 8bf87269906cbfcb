"""Divides a refused batch, as a lane does."""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

from relay.api import Batch
from relay.deliver import AttemptResult

Attempt = Callable[[Batch], Awaitable[AttemptResult]]


async def divide(attempt: Attempt, batch: Batch) -> AsyncIterator[tuple[Batch, AttemptResult]]:
    """Attempt a batch, and its halves while they are refused as a whole. Yield each part with its result."""
    parts = deque([batch])
    while parts:
        part = parts.popleft()
        result = await attempt(part)
        if result.split:
            parts.extendleft(reversed(part.halves(by_size=result.too_large)))
        else:
            yield part, result
