from pathlib import Path

import pytest
from pydantic import ValidationError

from relay.config import ConfigError
from relay.config.load import load
from relay.config.plugins.registry import Registry
from relay_plugins.filters import Drop, Hash, Keep, Only, Redact, Rename, Sample, Set
from tests.unit.plugins.filters.make import make


def nested(levels):
    """A condition in conditions."""
    return {"field": "a", "equals": 1} if levels == 1 else {"not": nested(levels - 1)}


@pytest.mark.parametrize(
    ("cls", "settings", "mistake"),
    [
        (Redact, {"fields": []}, "at least 1"),
        (
            Redact,
            {"fields": ['"user.user_id"']},
            "write the path without quotes: user.user_id. The path",
        ),
        (Redact, {"fields": "properties.'email_address'"}, "without quotes: properties.email_address. "),
        (Rename, {"fields": {'"a.b"': "c"}}, "without quotes: a.b. "),
        (Keep, {"field": '"a"', "equals": 1}, "without quotes: a. "),
        (Redact, {"fields": ["a..b"]}, "expected a dotted path"),
        (Redact, {"fields": [".".join(["a"] * 3000)]}, "a path has at most 100 parts, this one has 3,000"),
        (Keep, {"field": ".".join(["a"] * 101), "equals": 1}, "a path has at most 100 parts"),
        (Sample, {"rate": 1, "key": ".".join(["*"] * 101)}, "a path has at most 100 parts"),
        (Redact, {"fields": ["a"], "mask": "x"}, 'mask is for action = "mask" only'),
        (Redact, {"fields": ["a"], "action": "mask", "salt": {"env": "X"}}, 'salt is for action = "hash" only'),
        (Keep, {"field": "a"}, "exactly one of equals, in, glob, regex, less, more or exists; there is none"),
        (Keep, {}, "exactly one of field, all, any or not; there is none"),
        (Keep, {"field": "a", "equals": 1, "any": [{"field": "a", "equals": 1}]}, "there are 2"),
        (Keep, {"equals": 1, "any": [{"field": "a", "equals": 1}]}, "equals is a test of a field: put both into"),
        (Keep, {"field": []}, "at least 1"),
        (Keep, {"field": ["a", "b.", "c"], "equals": 1}, "expected a dotted path"),
        (Keep, {"all": []}, "at least 1"),
        (Drop, {"any": [{"all": [{"not": {"field": "a", "regex": "("}}]}]}, "not a regular expression: unclosed group"),
        (Drop, {"field": "a", "regex": "(?=a)"}, "not a regular expression: look-around, including look-ahead"),
        (Drop, {"field": "a", "regex": "a{1000}{1000}{100}"}, "not a regular expression: Compiled regex exceeds"),
        (Drop, {"field": "a", "less": "tomorrow"}, "expected a number, or a time such as"),
        (Drop, {"field": "a", "more": True}, "expected a number, or a time such as"),
        (Drop, {"not": {"field": "a", "near": 1}}, "Extra inputs"),
        (Keep, nested(21), "in at most 20 levels"),
        (Keep, {"field": "a", "equals": 1, "glob": "x"}, "there are 2"),
        (Drop, {"field": "a", "in": []}, "at least 1"),
        (Only, {"fields": []}, "at least 1"),
        (Hash, {"fields": ["pii"]}, "secret\n  Field required"),
        (Hash, {"fields": ["id"], "secret": {"env": "X"}}, "id, time and event_type stay as they are"),
        (Hash, {"fields": ["*"], "secret": {"env": "X"}}, "id, time and event_type stay as they are"),
        (Rename, {"fields": {}}, "at least 1"),
        (Rename, {"fields": {"time": "x"}}, "id, time and event_type stay as they are"),
        (Rename, {"fields": {"x": "event_type"}}, "id, time and event_type stay as they are"),
        (Rename, {"fields": {"x.*": "y"}}, r"a path that leads to one field has no \*"),
        (Rename, {"fields": {"x": {"y": "z"}}}, "write the whole path in quotes"),
        (Rename, {"fields": {"a": "c", "b": "c"}}, "several fields get the path c"),
        (Rename, {"fields": {"a": "b.c", "b": "d"}}, r"b\.c is a part of b: choose one of them"),
        (Set, {}, "give values or copies"),
        (Set, {"values": {"id": 1}}, "id, time and event_type stay as they are"),
        (Set, {"values": {"a": {"b": 1}}}, "write the whole path of a field in quotes"),
        (Set, {"values": {"a": [1]}}, "expected a text, a number, true or false"),
        (Set, {"values": {"a": 1}, "copies": {"a": "b"}}, "a is set twice"),
        (Set, {"values": {"a": 1, "a.b": 2}}, r"a\.b is a part of a"),
        (Sample, {"rate": 1.1}, "less than or equal to 1"),
        (Sample, {"rate": -0.1}, "greater than or equal to 0"),
    ],
)
def test_mistakes_in_the_settings(cls, settings, mistake):
    with pytest.raises(ValidationError, match=mistake):
        make(cls, **settings)


CONDITIONS = """\
[filter.a]
type = "keep"
all = [
  { field = "event_type", equals = "x" },
  { any = [
      { field = "x", more = 1 },
      { not = { field = "x", regex = "(a" } },
  ] },
  { field = "x", les = 3 },
  {},
]
"""


def test_an_entry_that_is_wrong_is_no_entry_that_is_missing(tmp_path: Path):
    (tmp_path / "50-a.toml").write_text('[filter.a]\ntype = "redact"\nfields = ["a..b"]\n')
    with pytest.raises(ConfigError) as raised:
        load([tmp_path], Registry.discover([]))
    assert [one.key for one in raised.value.mistakes] == ["filter.a.fields[0]"]


def test_a_hash_without_salt_is_a_warning():
    ((about, reason),) = make(Redact, fields=["a"], action="hash").settings.warnings()
    assert (about, reason.partition(":")[0]) == ("action", "has no salt")


def test_a_broken_path_of_order_by_is_a_mistake(tmp_path: Path):
    (tmp_path / "50-a.toml").write_text('[connector.a]\ntype = "stdout"\norder_by = "user..x"\n')
    with pytest.raises(ConfigError) as raised:
        load([tmp_path], Registry.discover([]))
    assert '50-a.toml:3: connector.a.order_by: expected a dotted path such as "user.user_id"' in str(raised.value)


def test_a_mistake_in_a_condition_has_its_line(tmp_path: Path):
    (tmp_path / "50-a.toml").write_text(CONDITIONS)
    with pytest.raises(ConfigError) as raised:
        load([tmp_path], Registry.discover([]))
    assert str(raised.value).splitlines() == [
        "50-a.toml:7: filter.a.all[1].any[1].not.regex: not a regular expression: unclosed group",
        "50-a.toml:9: filter.a.all[2].les: unknown key (did you mean less?)",
        "50-a.toml:10: filter.a.all[3]: give exactly one of field, all, any or not; there is none",
    ]
