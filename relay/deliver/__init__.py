"""Lanes: each takes one connector's events from the journal to its destination. No lane stands in another's way."""

from relay.deliver.fleet import Fleet
from relay.deliver.lane import Lane, Taps
from relay.deliver.lane_factory import Changes, compare, make_plans
from relay.deliver.live_lane import LiveLane
from relay.deliver.result import AttemptResult, judge
from relay.deliver.retry import draw_retry_delay

__all__ = [
    "AttemptResult",
    "Changes",
    "Fleet",
    "Lane",
    "LiveLane",
    "Taps",
    "compare",
    "draw_retry_delay",
    "judge",
    "make_plans",
]
