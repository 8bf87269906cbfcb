"""Three stories of the closed loop between Heap and Braze: a funnel, a trial, an offer."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from relay.sandbox.heap.segments import StandInSegment
from relay.sandbox.scenario import DAY_S, Followed, Stage, Step, set_stage, wait_until
from relay.sandbox.stream import Stream

MAIL, PUSH, IN_APP = (
    ("users.messages.email.Send", "Email Send"),
    ("users.messages.pushnotification.Send", "Push Notification Send"),
    ("users.messages.inappmessage.Impression", "In-App Message Impression"),
)
"""Event types of messages, each with its name in Heap."""


async def play_funnel(on: Stage) -> None:
    """Win users back that left a purchase at its last step. Users that talk with support get no message."""
    carts, support = (
        StandInSegment(1, "Lost carts", "Checkout Started", "Purchase"),
        StandInSegment(2, "In support", "Asked Support"),
    )
    steps = {"Product Viewed": 40, "Cart Updated": 30, "Checkout Started": 20, "Purchase": 8}
    for step, users in steps.items():
        on.heap.capture(step, name_visitors(users))
    on.heap.capture("Asked Support", name_visitors(11, 8))
    _tell_funnel(on, steps)
    entered, _ = await on.sync(carts, 10)
    on.tell('users in the Heap segment "Lost carts": checkout started, no purchase', 12, entered)
    on.tell("of them in the Braze cohort", 10, len(on.find_audience([carts.name])))
    await wait_until(lambda: on.braze.received.unknown == 2)  # they are in a page of their own
    on.tell("unknown to Braze, and ignored", 2, on.braze.received.unknown)
    entered, _ = await on.sync(support, 3)
    on.tell('users in the Heap segment "In support"', 3, entered)
    audience = on.find_audience([carts.name], excludes=[support.name])
    on.tell('in the Braze audience: includes "Lost carts", excludes "In support"', 7, len(audience))

    await on.send(MAIL[0], audience, "Your cart is waiting", MAIL[1])
    on.tell("sent an e-mail, and in Heap with it", 7, len(on.find_users_with(MAIL[1]) & audience))
    on.tell('of "In support" sent an e-mail', 0, len(on.find_users_with(MAIL[1]) & on.find_audience([support.name])))
    on.heap.capture("Purchase", sorted(audience)[:4])
    _, left = await on.sync(carts, 6)
    on.tell('then purchased, and left "Lost carts"', 4, left)
    _tell_funnel(on, steps | {"Purchase": 12})
    path = [f"day 0: {step}" for step in ("Product Viewed", "Cart Updated", "Checkout Started")]
    on.follow("visitor-11", *path, f"day 0: {MAIL[1]}", "day 0: Purchase", "in: no cohort")
    on.follow("visitor-08", *path, "day 0: Asked Support", "in: Lost carts, In support")


def _tell_funnel(on: Stage, steps: Mapping[str, int]) -> None:
    before = 0
    for step, expected in steps.items():
        found = len(on.find_users_with(step))
        lost = f", {1 - found / before:.0%} of the step before left" if before else ""
        on.tell(f'did "{step}"{lost}', expected, found)
        before = found


async def play_trial(on: Stage) -> None:
    """Remind users on trial on days 1, 3 and 7. A user that subscribes leaves before the next reminder."""
    segment = StandInSegment(3, "On trial", "Trial Started", "Subscribed")
    on.heap.capture("Trial Started", name_visitors(20))
    entered, _ = await on.sync(segment, 20)
    on.tell('users in the Heap segment "On trial"', 20, entered)
    day, converts, left = 0, {1: 6, 3: 5, 7: 2}, 20
    for reminder, converted in converts.items():
        on.clock.forward((reminder - day) * DAY_S)
        day, audience = reminder, on.find_audience([segment.name])
        on.tell(f"reminded on day {reminder}", left, len(audience))
        subscribed = on.find_users_with("Subscribed")
        on.tell("of them had subscribed before", 0, len(audience & subscribed))
        await on.send(PUSH[0], audience, f"Day {reminder}", PUSH[1])
        on.heap.capture("Subscribed", sorted(audience)[:converted])
        left -= converted
        _, departed = await on.sync(segment, left)
        on.tell("subscribed after that, and left the cohort", converted, departed)
    sends = sum(event["event"] == PUSH[1] for event in on.heap.events.values())
    on.tell("reminders in Heap", 20 + 14 + 9, sends)
    on.tell("still on trial", 7, len(on.find_audience([segment.name])))
    on.follow("visitor-00", "day 0: Trial Started", f"day 1: {PUSH[1]}", "day 1: Subscribed", "in: no cohort")
    reminders = [f"day {reminder}: {PUSH[1]}" for reminder in converts]
    on.follow("visitor-19", "day 0: Trial Started", *reminders, "in: On trial")


async def play_offer(on: Stage) -> None:
    """Make an offer to users that looked at the prices, except a control group. Compare the purchases of both."""
    prices, control = (
        StandInSegment(4, "Looked at prices", "Prices Viewed"),
        StandInSegment(5, "Control group", "Held Out"),
    )
    everybody = name_visitors(40)
    on.heap.capture("Prices Viewed", everybody)
    on.heap.capture("Held Out", everybody[::4])
    entered, _ = await on.sync(prices, 40)
    on.tell('users in the Heap segment "Looked at prices"', 40, entered)
    held, _ = await on.sync(control, 10)
    on.tell('of them in the Heap segment "Control group"', 10, held)
    audience, rest = on.find_audience([prices.name], excludes=[control.name]), on.find_audience([control.name])
    on.tell("get the offer", 30, len(audience))
    await on.send(IN_APP[0], audience, "Half price", IN_APP[1])
    on.tell("saw it, as Heap has it", 30, len(on.find_users_with(IN_APP[1]) & audience))
    on.tell("of the control group saw it", 0, len(on.find_users_with(IN_APP[1]) & rest))

    await _buy(on, dict.fromkeys(sorted(audience)[:12], 5.0) | dict.fromkeys(sorted(rest)[:1], 10.0))
    for group, users, expected in (("offered", audience, 12), ("control", rest, 1)):
        buyers = on.find_users_with("Purchase") & users
        on.tell(f"of the {group} bought: {len(buyers) / len(users):.0%} of {len(users)}", expected, len(buyers))
    for group, users, cents in (("offered", audience, 6000), ("control", rest, 1000)):
        on.tell(f"cents that the {group} spent, by Braze's purchases in Heap", cents, _sum_spent(on, users))
    bought = [f"day 0: {IN_APP[1]}", "day 0: Purchase"]
    on.follow("visitor-01", "day 0: Prices Viewed", *bought, "in: Looked at prices")
    held_out = ["day 0: Prices Viewed", "day 0: Held Out", "day 0: Purchase"]
    on.follow("visitor-00", *held_out, "in: Looked at prices, Control group")


async def _buy(on: Stage, prices: Mapping[str, float]) -> None:
    """Have Braze send purchases by Currents, and wait until Heap has them."""
    for user, price in prices.items():
        changes = {"user": {"external_user_id": user}, "properties": {"price": price, "currency": "USD"}}
        Stream(on.currents).queue_events("users.behaviors.Purchase", 1, None, changes)
    await on.flush()
    await wait_until(lambda: on.find_users_with("Purchase") >= {*prices})


def _sum_spent(on: Stage, users: Iterable[str]) -> int:
    """Sum the purchases of users, in cents."""
    buyers = {*users}
    bought = [
        event for event in on.heap.events.values() if event["event"] == "Purchase" and event["identity"] in buyers
    ]
    return round(sum(float(event["properties"]["price"]) for event in bought) * 100)


def name_visitors(count: int, first: int = 0) -> Sequence[str]:
    """Return the names of users by number, from `first` to before `count`."""
    return [f"visitor-{number:02}" for number in range(first, count)]


Story = Callable[[Stage], Awaitable[None]]
STORIES: Final[Mapping[str, tuple[Story, frozenset[str]]]] = {
    "funnel": (play_funnel, frozenset({"visitor-18", "visitor-19"})),
    "trial": (play_trial, frozenset()),
    "offer": (play_offer, frozenset()),
}
"""Stories by name, each with the users that Braze does not know."""


async def play_story(name: str, folder: Path, **options: Any) -> Sequence[Step | Followed]:
    """Play a story in a folder, and return its checks. Raises SandboxError if the story does not get to its end."""
    story, strangers = STORIES[name]
    async with set_stage(folder, [user for user in name_visitors(40) if user not in strangers], **options) as on:
        await story(on)
    return on.told
