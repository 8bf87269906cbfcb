"""`relay events`: what can be named in `events` can be seen, completed and found by a wrong name.

Looked at as well: `tail`, `journal dump`, `replay`, `add` and the stand-ins, which take the same names.
"""

import json
from typing import Any

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from relay.catalogue import TYPES, Selection
from relay.catalogue.selection import suggest_entry
from relay.cli.main import relay as command
from relay.config.plugins.registry import Registry
from relay.config.schema import make_schema

EMAIL = sorted(name for name, known in TYPES.items() if known.channel == "email")


def events(*words: str) -> Result:
    return CliRunner().invoke(command, ["events", *words])


def listed(*words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(events(*words, "--json").stdout)
    return found


def test_all_types_are_listed_with_what_they_are() -> None:
    found = {one["type"]: one for one in listed()}
    assert found.keys() - TYPES.keys() == {"cohort.Change"}
    assert found["cohort.Change"]["status"] == "made"
    assert found["users.messages.email.Open"] == {
        "type": "users.messages.email.Open",
        "group": "message_engagement",
        "channel": "email",
        "status": "current",
        "entry": None,
    }
    assert found["users.campaigns.Abort"]["status"] == "retired"


@pytest.mark.parametrize("pattern", ["email", "users.messages.email.*", "MESSAGES.EMAIL"])
def test_a_pattern_is_an_entry_of_a_selection_or_a_part_of_a_name(pattern: str) -> None:
    assert sorted(one["type"] for one in listed(pattern)) == EMAIL


def test_a_selection_tells_what_it_takes_and_by_which_entry() -> None:
    found = listed("--events", "email", "--events", "*.Purchase", "--events", "!users.messages.email.Open")
    taken = {one["type"]: one["entry"] for one in found}
    wanted = dict.fromkeys(EMAIL, "email") | {"users.behaviors.Purchase": "*.Purchase"}
    assert taken == {name: entry for name, entry in wanted.items() if name != "users.messages.email.Open"}
    told = events("purchase", "--events", "customer_behavior").stdout.splitlines()
    assert told[0].split() == ["type", "group", "channel", "status", "taken", "by"]
    assert told[1].split()[-1] == "customer_behavior"
    assert told[2] == "1 type"


def test_what_must_be_named_is_not_taken_by_a_star() -> None:
    assert "cohort.Change" not in {one["type"] for one in listed("--events", "*")}
    assert [one["type"] for one in listed("--events", "cohort.Change")] == ["cohort.Change"]


def test_an_entry_that_matches_nothing_gets_a_suggestion() -> None:
    answer = events("--events", "push", "--events", "email")
    assert answer.stderr == 'warning: "push" matches no known event type (did you mean pushnotification?)\n'
    assert answer.exit_code == 0
    assert (events("emial").exit_code, events("emial").stderr) == (
        1,
        "Error: no type that is known (did you mean email?)\n",
    )


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("push", "pushnotification"),
        ("Push Notification", "pushnotification"),
        ("in-app", "inappmessage"),
        ("message", "message_engagement"),
        ("emial", "email"),
        ("purchases", "purchase"),
        ("Bounce", "*.Bounce"),
        ("pushtostarttokenchange", "users.behaviors.liveactivity.PushToStartTokenChange"),
        ("zzz", None),
        ("--", None),
    ],
)
def test_what_was_meant_is_found(word: str, meant: str | None) -> None:
    assert suggest_entry(word) == meant
    assert meant is None or any(map(Selection([meant]).wants, TYPES))


@pytest.mark.parametrize(
    ("words", "incomplete", "expected"),
    [
        (["events"], "pushn", ["pushnotification"]),
        (["tail", "--events"], "!pushn", ["!pushnotification"]),
        (["journal", "dump", "--events"], "users.behaviors.Pur", ["users.behaviors.Purchase"]),
        (["replay", "--events"], "canv", ["canvas"]),
        (["add", "connector", "file", "--events"], "email,!pushn", ["email,!pushnotification"]),
        (["sandbox", "braze", "--events"], "banner", ["banner"]),
        (["send", "--sample"], "users.messages.email.Op", ["users.messages.email.Open"]),
    ],
)
def test_a_shell_completes_the_names(words: list[str], incomplete: str, expected: list[str]) -> None:
    found = ShellComplete(command, {}, "relay", "_RELAY_COMPLETE").get_completions(words, incomplete)
    assert [one.value for one in found] == expected


def test_editors_complete_the_names() -> None:
    made = make_schema(Registry.discover(()))
    parts = made["$defs"]
    assert parts["connector.heap"]["properties"]["events"]["items"] == {"$ref": "#/$defs/entry"}
    assert parts["connector.heap"]["properties"]["names"]["propertyNames"] == {"$ref": "#/$defs/event type"}
    assert parts["erasure"]["properties"]["on"]["items"] == {"$ref": "#/$defs/event type"}
    names = parts["entry"]["anyOf"][0]["enum"]
    assert {"message_engagement", "email", "!email", "users.messages.email.Open"} <= {*names}
