"""Currents' storage schemas as data: made from the table of the facts, and whole enough for all samples."""

import csv
from collections import defaultdict
from pathlib import Path

import orjson
import pytest

from relay.api import find_storage_fields
from relay.api.currents.storage_fields import FILE
from tests.make_storage_fields import HTTP_ONLY, HTTP_ONLY_BY_TYPE, make_rows

SHARED = Path(__file__).parents[4] / "shared"


@pytest.fixture(scope="module")
def facts():
    if not (table := SHARED / "facts" / "currents-storage-fields.csv").is_file():
        pytest.skip(f"the facts are not here: {table}")
    with table.open() as lines:
        return [*csv.DictReader(lines)]


def test_the_file_is_what_the_script_makes_of_the_facts(facts) -> None:
    with FILE.open() as lines:
        assert [*csv.reader(lines)][1:] == [[*row] for row in make_rows(facts)]


def test_each_type_has_the_vendors_fields_in_order_and_few_others(facts) -> None:
    by_type = defaultdict(list)
    for row in facts:
        by_type[row["event_type"]].append(row["field"])
    assert len(by_type) == 94
    for event_type, names in by_type.items():
        own = [field.name for field in find_storage_fields(event_type)]
        assert own[: len(names)] == names
        assert {*own[len(names) :]} <= {*HTTP_ONLY, *HTTP_ONLY_BY_TYPE.get(event_type, ())}
    assert not find_storage_fields("users.messages.newsfeedcard.Click")


def test_an_odd_record_name_is_a_mistake(facts) -> None:
    with pytest.raises(ValueError, match=r"agentconsole\.AgentExecuted: the record is not called"):
        list(make_rows([facts[0] | {"avro_name": "Other"}]))


def test_each_field_of_each_sample_is_known() -> None:
    samples = [orjson.loads(path.read_bytes()) for path in (SHARED / "samples" / "currents").glob("*.json")]
    if not samples:
        pytest.skip(f"no real sample events in {SHARED}")
    seen = 0
    for sample in samples:
        if fields := find_storage_fields(sample.pop("event_type")):
            known = {field.path for field in fields}
            inner = {(outer, name) for outer in ("user", "properties") for name in sample.pop(outer, ())}
            assert {(name,) for name in sample} | inner <= known
            seen += 1
    assert seen == 60
