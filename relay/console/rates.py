"""Accepted and delivered events per second in the last hour, from the counts of the status."""

from collections import deque
from dataclasses import dataclass
from typing import ClassVar, Final

from relay.status import Status

POINTS: Final = 360


@dataclass(frozen=True, slots=True)
class RatePoint:
    """The rates until a moment."""

    at: float
    """Unix seconds, by relay's clock."""
    accepted: float
    """Events per second."""
    delivered: float


class RateHistory:
    """The rates of the last hour, a point for each EVERY_S seconds."""

    EVERY_S: ClassVar = 10.0

    def __init__(self) -> None:
        self.points: deque[RatePoint] = deque(maxlen=POINTS)
        self._before: tuple[float, int, int] | None = None

    def add(self, status: Status) -> None:
        """Add a point if the last one is old enough. Counts that have become smaller begin anew."""
        accepted = sum(one.accepted for one in status.sources)
        delivered = sum(one.outcomes.get("delivered", 0) for one in status.lanes)
        if self._before is None:
            self._before = status.now, accepted, delivered
            return
        before, accepted_before, delivered_before = self._before
        passed = status.now - before
        if 0 <= passed < self.EVERY_S:
            return
        self._before = status.now, accepted, delivered
        if passed > 0 and accepted >= accepted_before and delivered >= delivered_before:
            rates = (accepted - accepted_before) / passed, (delivered - delivered_before) / passed
            self.points.append(RatePoint(status.now, *rates))

    def average(self, seconds: float) -> list[RatePoint]:
        """Return the averages of periods of so many seconds, the newest first."""
        periods: dict[float, list[RatePoint]] = {}
        for point in self.points:
            periods.setdefault(point.at // seconds, []).append(point)
        return [
            RatePoint(
                points[-1].at,
                sum(one.accepted for one in points) / len(points),
                sum(one.delivered for one in points) / len(points),
            )
            for _, points in sorted(periods.items(), reverse=True)
        ]
