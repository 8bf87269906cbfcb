"""Stand-ins for Braze and Heap, and the demonstration that runs relay between them."""

from relay.sandbox.braze.profiles import Profile
from relay.sandbox.braze.reactions import CurrentsSwitches
from relay.sandbox.braze.rest_api import CohortApi, CohortSwitches
from relay.sandbox.braze.sender import CurrentsSender
from relay.sandbox.braze.side_doors import make_cohort_doors, make_currents_doors
from relay.sandbox.clock import SandboxClock
from relay.sandbox.daemon import DemoConsole, SandboxError
from relay.sandbox.demo import Demo
from relay.sandbox.doors import make_shared_doors
from relay.sandbox.heap.segments import SegmentSync, SyncSwitches
from relay.sandbox.heap.side_doors import HeapDoors
from relay.sandbox.heap.track import ApiSwitches, HeapApi
from relay.sandbox.heap.webhook import HeapWebhook, WebhookSwitches
from relay.sandbox.report import Result, format_result
from relay.sandbox.scenario import Followed, Step
from relay.sandbox.segment import SegmentApi, SegmentSwitches
from relay.sandbox.server import StandIn
from relay.sandbox.shapes import list_types, make_event, make_sample
from relay.sandbox.stories import STORIES, play_story
from relay.sandbox.stream import Stream
from relay.sandbox.switches import Switches

__all__ = [
    "STORIES",
    "ApiSwitches",
    "CohortApi",
    "CohortSwitches",
    "CurrentsSender",
    "CurrentsSwitches",
    "Demo",
    "DemoConsole",
    "Followed",
    "HeapApi",
    "HeapDoors",
    "HeapWebhook",
    "Profile",
    "Result",
    "SandboxClock",
    "SandboxError",
    "SegmentApi",
    "SegmentSwitches",
    "SegmentSync",
    "StandIn",
    "Step",
    "Stream",
    "Switches",
    "SyncSwitches",
    "WebhookSwitches",
    "format_result",
    "list_types",
    "make_cohort_doors",
    "make_currents_doors",
    "make_event",
    "make_sample",
    "make_shared_doors",
    "play_story",
]
