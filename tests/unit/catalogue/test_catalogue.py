from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.catalogue import TYPES, Selection, Unmatched, drop_opt_in, find_type
from relay.catalogue.selection import NAMES, TYPES_REMEMBERED

SAMPLES = Path(__file__).parents[4] / "shared" / "samples" / "currents"
OPEN = "users.messages.email.Open"
PURCHASE = "users.behaviors.Purchase"


def test_the_catalogue_has_the_types_that_braze_documents():
    current = [kind.group for kind in TYPES.values() if kind.status == "current"]
    counts = {group: current.count(group) for group in set(current)}
    assert counts == {"message_engagement": 86, "customer_behavior": 10, "user": 4}
    assert sum(kind.status == "retired" for kind in TYPES.values()) == 8


def test_group_and_channel_names_differ_so_that_an_entry_means_one_thing():
    assert not {kind.group for kind in TYPES.values()} & {kind.channel for kind in TYPES.values()}


def test_every_real_sample_is_catalogued():
    if not SAMPLES.is_dir():
        pytest.skip(f"no samples of Braze events at {SAMPLES}")
    assert {path.stem for path in SAMPLES.glob("*.json")} <= set(TYPES)


@pytest.mark.parametrize(
    ("entries", "type", "decided"),
    [
        (["message_engagement"], OPEN, "message_engagement"),
        (["message_engagement"], PURCHASE, None),
        (["message_engagement"], "users.behaviors.Uninstall", "message_engagement"),
        (["message_engagement"], "users.canvas.Abort", "message_engagement"),
        (["message_engagement"], "users.messages.email.BrandNew", "message_engagement"),
        (["email"], "users.messages.email.BrandNew", "email"),
        (["message_engagement"], "users.messages.telegram.Send", "message_engagement"),
        (["telegram"], "users.messages.telegram.Send", "telegram"),
        (["email"], "users.messages.telegram.Send", None),
        (["message_engagement", "!unknown"], "users.messages.email.BrandNew", "!unknown"),
        (["message_engagement", "!unknown"], OPEN, "message_engagement"),
        (["!unknown"], "users.canvas.Abort", "*"),
        (["unknown"], "brand.New", "unknown"),
        (["unknown"], OPEN, None),
        (["canvas"], "users.canvas.step.New", "canvas"),
        (["customer_behavior"], "users.behaviors.New", "customer_behavior"),
        (["push_token"], "users.behaviors.pushnotification.New", "push_token"),
        (["message_engagement"], "messages.email.Open", None),
        (["message_engagement"], "users.messages", None),
        (["email"], OPEN, "email"),
        (["email"], "email", "email"),
        (["email"], "messages.email.Open", None),
        ([OPEN], OPEN, OPEN),
        (["brand.New"], "brand.New", "brand.New"),
        (["users.*.email.*"], "users.messages.email.BrandNew", "users.*.email.*"),
        (["users.messages.email.o*"], OPEN, None),
        (["users.messages.[es]m*"], OPEN, "users.messages.[es]m*"),
        (["*"], "whatever", "*"),
        (["!email"], OPEN, "!email"),
        (["!email"], PURCHASE, "*"),
        (["email", f"!{OPEN}"], OPEN, f"!{OPEN}"),
        ([f"!{OPEN}", OPEN], OPEN, f"!{OPEN}"),
        (["email", "!users.messages.email.C*"], OPEN, "email"),
    ],
)
def test_a_selection_wants_what_its_entries_say(entries, type, decided):
    selection = Selection(entries)
    assert selection.explain(type) == decided
    assert selection.wants(type) is (decided is not None and not decided.startswith("!"))
    assert selection.wants(type) is selection.wants(type)


@pytest.mark.parametrize(
    ("entries", "takes", "wanted"),
    [
        (["*"], (), False),
        (["!email"], (), False),
        (["email", "*"], (), False),
        (["*", "cohort.Change"], (), True),
        (["*", "cohort.*"], (), True),
        (["*.Change"], (), True),
        (["cohort.*", "!cohort.Change"], (), False),
        (["email"], (), False),
        (["*"], ("cohort.Change",), True),
        (["email"], ("cohort.Change",), False),
    ],
)
def test_what_star_does_not_ask_for_a_connector_has_to_name(entries, takes, wanted):
    selection = Selection(drop_opt_in(entries, takes))
    assert selection.wants("cohort.Change") is wanted
    assert selection.wants(OPEN) is Selection(entries).wants(OPEN)


def test_names_say_the_group_and_channel_that_the_catalogue_has(monkeypatch):
    """Looked at as well: replays, `relay tail`, what workers hand on, `relay check`: all of them ask a selection."""
    monkeypatch.setattr("relay.catalogue.types.TYPES", {})
    current = {name: known for name, known in TYPES.items() if known.status == "current"}
    said = {name: find_type(name) for name in current}
    assert {name for name in said if said[name] is None} == {name for name in current if name.count(".") == 1} - {
        name for name in current if not name.startswith("users.")
    }
    for name, one in said.items():
        if one is not None and name != "users.behaviors.Uninstall":
            assert (one.group, one.channel or current[name].channel) == (current[name].group, current[name].channel)


@pytest.mark.parametrize("name", ["", ".", "users", "users.", "users.New", "mine.Type", "x" * 256, "users.message.a.B"])
def test_what_says_nothing_is_in_no_group(name):
    assert find_type(name) is None


def test_unknown_is_no_mistake():
    assert Selection(["unknown", "!unknown"]).warnings() == []


@settings(deadline=None)
@given(st.text("*?[ab]!.-", min_size=1), st.text("abc.-!", max_size=8))
def test_globs_mean_what_fnmatch_means(glob, type):
    assert Selection(["nothing", "*" + glob]).wants(type) is fnmatchcase(type, "*" + glob)


def test_an_endless_stream_of_new_types_is_answered_in_bounded_memory():
    selection = Selection(["a*"])
    for number in range(2 * TYPES_REMEMBERED + 10):
        assert selection.wants(f"a{number}")
        assert not selection.wants(f"b{number}")
    assert len(selection._remembered) <= TYPES_REMEMBERED


def test_entries_that_match_nothing_known_are_told_with_a_suggestion():
    entries = ["emial", "users.messages.email.open", "!messages.email.Send", "users.fancy.*", "email", "*", "users.*"]
    assert sorted(Selection(entries).warnings(), key=lambda unmatched: entries.index(unmatched.entry)) == [
        Unmatched("emial", "email"),
        Unmatched("users.messages.email.open", OPEN),
        Unmatched("!messages.email.Send", "users.messages.email.Send"),
        Unmatched("users.fancy.*", None),
    ]


def test_every_name_of_the_catalogue_can_be_selected():
    assert Selection(NAMES).warnings() == []
