"""Ticks of event types: what they show of an `events` list, and the shortest list for what is ticked."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import reduce
from itertools import combinations
from operator import or_

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.catalogue import NAMES, OPT_IN, TYPES, UNKNOWN, Selection, drop_opt_in
from relay.console.forms.shortest import ALL, list_leaves, write_entries
from relay.console.forms.ticks import EVERYTHING, SHOWN, TEXT, Tick, TickBranch, Ticks, fill_ticks, read_events

LEAVES = list_leaves()
NAMES_OF_LEAVES = [leaf.name for leaf in LEAVES]
CHANNELS = sorted({one.channel for one in TYPES.values()})
GROUPS = sorted({one.group for one in TYPES.values()})
MESSAGES, OPEN, EMAIL = "group.message_engagement", "type.users.messages.email.Open", "channel.message_engagement.email"
PURCHASE = "channel.customer_behavior.purchase"
GLOBS = (
    "users.messages.email.*",
    "*.Abort",
    "!*.Abort",
    "!users.canvas.*",
    "my.type",
    "!my.type",
    "cohort.*",
    "!unknown",
)


def select(entries: Sequence[str], accepted: Collection[str] = ()) -> set[str]:
    """Return the leaves that relay would select."""
    return {*filter(Selection(drop_opt_in(entries, [*accepted])).wants, NAMES_OF_LEAVES)}


def post(
    entries: Sequence[str] | None,
    *,
    tick: Collection[str] = (),
    untick: Collection[str] = (),
    text: str | None = None,
    accepted: Collection[str] = (),
) -> list[str] | None:
    """Change these boxes, and post the form as a browser without a script does."""
    ticks = fill_ticks(entries, accepted)
    form = fill_form(ticks)
    form |= {f"events.{name}": "on" for name in tick}
    form = {name: value for name, value in form.items() if name.removeprefix("events.") not in untick}
    return read_events(form if text is None else form | {TEXT: text}, accepted)


def fill_form(ticks: Ticks) -> dict[str, str]:
    form = {one.name: "on" for one in ticks.list_boxes() if one.is_ticked and not one.decided_by}
    return form | {SHOWN: ticks.shown, TEXT: "\r\n".join(ticks.free)}


def post_with_script(ticks: Ticks, wanted: Collection[str]) -> list[str] | None:
    """Tick just these types, and post the form as the script of the page keeps it: boxes above follow those below."""
    form = {SHOWN: ticks.shown, TEXT: "\n".join(ticks.free)}

    def put(box: Tick | None, below: Iterator[Tick]) -> None:
        states = {one.entry in wanted for one in below if not one.decided_by}
        if box and (states == {True} or (len(states) == 2 and box.is_ticked)):  # mixed: as it was shown
            form[box.name] = "on"

    everything = [one for branch in ticks.groups for one in list_below(branch)]
    for branch in (*ticks.groups, *(one for group in ticks.groups for one in group.branches)):
        put(branch.box, list_below(branch))
    put(ticks.all, iter([*everything, *(one for one in ticks.others if not one.is_apart)]))
    for one in (*everything, *ticks.others):
        if one.entry in wanted and not one.decided_by:
            form[one.name] = "on"
    return read_events(form)


def list_below(branch: TickBranch) -> Iterator[Tick]:
    yield from branch.leaves
    for one in branch.branches:
        yield from list_below(one)


@st.composite
def sets_of_leaves(draw: st.DrawFn) -> set[str]:
    """Sets that groups and channels say shortly, with a few types more or less."""
    lists = {*draw(st.sets(st.sampled_from([*GROUPS, *CHANNELS, UNKNOWN, ALL]), max_size=6))}
    without = {*draw(st.sets(st.sampled_from(CHANNELS), max_size=3))}
    some = {leaf.name for leaf in LEAVES if leaf.names & lists and not leaf.names & without}
    return some ^ draw(st.sets(st.sampled_from(NAMES_OF_LEAVES), max_size=6))


@given(sets_of_leaves(), st.lists(st.sampled_from(GLOBS), max_size=2, unique=True))
def test_a_list_selects_what_is_ticked_and_what_the_text_says(wanted: set[str], free: list[str]) -> None:
    entries = write_entries(LEAVES, wanted, free)
    positive, negative = ([one for one in free if one.startswith("!") is sign] for sign in (False, True))
    also = select(positive) if positive else set()
    if wanted | also:
        assert select(entries) == {*filter(Selection(negative).wants, wanted | also)}
    assert {*free} <= {*entries}
    assert len({*entries}) == len(entries)


MASKS = {name: sum(1 << number for number, leaf in enumerate(LEAVES) if name in leaf.names) for name in
         (*NAMES, *OPT_IN, ALL)}  # fmt: skip


def mask(entries: Sequence[str]) -> int:
    positive = [MASKS[one] for one in entries if not one.startswith("!")]
    negative = [MASKS[one[1:]] for one in entries if one.startswith("!")]
    return reduce(or_, positive, 0 if positive else MASKS[ALL]) & ~reduce(or_, negative, 0)


ENTRIES = [*MASKS, *(f"!{name}" for name in MASKS if name not in (UNKNOWN, ALL))]


@given(st.lists(st.sampled_from(ENTRIES), min_size=1, max_size=5))
def test_the_masks_of_this_file_are_what_relay_selects(entries: list[str]) -> None:
    selected = select(entries)
    if {"cohort.Change", "!cohort.Change"}.isdisjoint(entries) and UNKNOWN not in entries:
        selected.discard("cohort.Change")
    assert mask(entries) == sum(1 << NAMES_OF_LEAVES.index(name) for name in selected)


SHORT = {mask([]): [], **{mask([one]): [one] for one in reversed(ENTRIES)}}
PAIRS = {mask(two) for two in combinations(ENTRIES, 2)}


@given(st.lists(st.sampled_from(ENTRIES), min_size=1, max_size=3))
def test_no_list_of_up_to_two_entries_is_shorter_than_the_one_written(entries: list[str]) -> None:
    meant = mask(entries)
    ticked = [name for number, name in enumerate(NAMES_OF_LEAVES) if meant >> number & 1]
    if not ticked:
        return
    written = write_entries(LEAVES, ticked)
    assert mask(written) == meant
    assert len(written) <= len({*entries})
    assert len(written) == 1 or meant not in SHORT, written
    assert len(written) <= 2 or meant not in PAIRS, written


@given(sets_of_leaves(), sets_of_leaves())
def test_with_and_without_script_the_list_is_the_one_for_the_ticks(before: set[str], wanted: set[str]) -> None:
    shown = write_entries(LEAVES, before) if before else []
    expected = None if not wanted ^ before and not shown else write_entries(LEAVES, wanted) if wanted else []
    found = post_with_script(fill_ticks(shown), wanted)
    assert (found or [ALL]) == (shown if wanted == before else expected) or (not wanted and not found)


@given(st.lists(st.sampled_from([*ENTRIES, *GLOBS]), max_size=5))
def test_a_form_that_nobody_changed_says_the_list_as_it_was(entries: list[str]) -> None:
    ticks = fill_ticks(entries)
    assert read_events(fill_form(ticks)) == entries
    shown = {one.entry for one in ticks.list_boxes() if one.is_ticked}
    assert shown & {*NAMES_OF_LEAVES} == (select(entries) if entries else set())


def test_the_ticks_of_the_seeds_make_their_list() -> None:
    example = ["message_engagement", "purchase", "!users.messages.email.Open"]
    first = post([], tick=[MESSAGES, PURCHASE])
    assert first == example[:2]
    assert post(first, untick=[OPEN]) == example
    wanted = select(["message_engagement", "purchase"]) - {"users.messages.email.Open"}
    assert post_with_script(fill_ticks([]), wanted) == example


@pytest.mark.parametrize(
    ("before", "tick", "untick", "after"),
    [
        (None, [], [], None),
        (["*"], [], [], ["*"]),
        (["email", "*"], [], [], ["email", "*"]),
        (None, [], [OPEN], ["!users.messages.email.Open"]),
        (None, [], ["all"], []),
        ([], [], [], []),
        ([], ["all"], [], None),
        ([], ["type.cohort.Change"], [], ["cohort.Change"]),
        (None, ["type.cohort.Change"], [OPEN], ["*", "cohort.Change", "!users.messages.email.Open"]),
        (["unknown"], [], ["type.cohort.Change"], ["unknown", "!cohort.Change"]),
        (["users.messages.email.Open"], [MESSAGES], [], ["message_engagement"]),
        (["message_engagement"], [], [MESSAGES], []),
        (["message_engagement"], [], [EMAIL], ["message_engagement", "!email"]),
        (["message_engagement", "!email"], [OPEN, PURCHASE], [], None),
        (["users.messages.email.*"], [PURCHASE], [], ["purchase", "users.messages.email.*"]),
        (
            ["users.messages.email.*", f"!{OPEN[5:]}"], [PURCHASE], [],
            ["purchase", "users.messages.email.*", f"!{OPEN[5:]}"],
        ),
        (["message_engagement", "!*.Abort"], [PURCHASE], [], ["message_engagement", "purchase", "!*.Abort"]),
        (["message_engagement", "!*.Abort"], [], [MESSAGES], []),
        (None, [], ["type.unknown"], ["message_engagement", "customer_behavior", "user"]),
    ],
)  # fmt: skip
def test_without_script_a_box_changes_all_below_it(
    before: list[str] | None, tick: list[str], untick: list[str], after: list[str] | None
) -> None:
    if after is None and before and tick:  # one type of an excluded channel: nine exclusions take its place
        after = [
            "message_engagement",
            "purchase",
            *(f"!{one}" for one in TYPES if ".email." in one and one != OPEN[5:]),
        ]
    assert post(before, tick=tick, untick=untick) == after


def test_an_entry_of_the_text_decides_over_its_types() -> None:
    ticks = {one.entry: one for one in fill_ticks(["purchase", "*.Open", "!users.messages.email.Open"]).list_boxes()}
    decided = {name: one.decided_by for name, one in ticks.items() if one.decided_by}
    assert decided == {"users.messages.pushnotification.Open": "*.Open"}
    assert ticks["users.messages.pushnotification.Open"].is_ticked
    assert post(["purchase"], text="my.type\n\n email.*") == ["purchase", "my.type", "email.*"]


def test_a_type_of_connector_shows_what_it_can_use_alone() -> None:
    accepted = ["cohort.Change"]
    ticks = fill_ticks(None, accepted)
    assert [one.name for one in ticks.list_boxes()] == [EVERYTHING, "events.type.cohort.Change"]
    assert all(one.is_ticked for one in ticks.list_boxes())
    assert post([], tick=["all"], accepted=accepted) is None
    assert post([], tick=["type.cohort.Change"], accepted=accepted) == ["cohort.Change"]
    assert post(None, untick=["type.cohort.Change"], accepted=accepted) == []


def test_a_form_without_the_list_that_it_was_made_from_starts_from_nothing() -> None:
    forms: list[Mapping[str, str]] = [{}, {SHOWN: "{"}, {SHOWN: "[1]"}]
    assert [read_events({**form, f"events.{EMAIL}": "on"}) for form in forms] == [["email"]] * 3


def test_a_channel_without_a_spelling_of_its_own_is_named_as_in_its_types() -> None:
    titles = {channel.title for group in fill_ticks(None).groups for channel in group.branches}
    assert titles >= {"Content Card", "SMS", "Canvas", "WhatsApp", "Live Activity token"}
