"""Lanes: each takes one connector's events from the journal to its destination. No lane stands in another's way."""

from relay.deliver.fleet import Fleet
from relay.deliver.lane import Lane
from relay.deliver.lane_factory import Changes
from relay.deliver.live_lane import LiveLane
from relay.deliver.result import Verdict, judge
from relay.deliver.retry import retry_delay

__all__ = [
    "Changes",
    "Fleet",
    "Lane",
    "LiveLane",
    "Verdict",
    "judge",
    "retry_delay",
]
