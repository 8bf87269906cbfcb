"""The filter `hash`, and the fields that `pii` stands for."""

import csv
import hmac
from pathlib import Path

import orjson
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from relay.api import find_personal_fields
from relay_plugins.filters import Hash, Redact
from tests.unit.plugins.filters.make import make

FACTS = Path(__file__).parents[5] / "shared" / "facts" / "currents-storage-fields.csv"
SECRET = "0123456789abcdef"


@pytest.fixture
def hashed(make_event, monkeypatch):
    monkeypatch.setenv("RELAY_TEST_SECRET", SECRET)

    def run(data, fields):
        return make(Hash, fields=fields, secret={"env": "RELAY_TEST_SECRET"}).apply(make_event(data))

    return run


def pseudonym(text: bytes) -> str:
    return hmac.digest(SECRET.encode(), text, "sha256").hex()


def test_hash_writes_the_hmac_of_a_value(hashed):
    data = {"id": "1", "p": {"e": "ä@b.c", "n": 5, "l": [1, {"x": 2}], "t": "null", "q": '"\\'}}
    assert hashed(data, ["p.*"]).data == {
        "id": "1",
        "p": {
            "e": pseudonym("ä@b.c".encode()),
            "n": pseudonym(b"5"),
            "l": pseudonym(b'[1,{"x":2}]'),
            "t": pseudonym(b"null"),
            "q": pseudonym(b'"\\'),
        },
    }


@given(st.text(min_size=1, max_size=150, alphabet=st.characters(min_codepoint=33, max_codepoint=126)), st.text())
@example("s" * 65, "x")
def test_hash_is_the_hmac_whatever_the_secret_and_the_value(make_event, secret, text):
    assume(text != "[REDACTED]")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELAY_TEST_SECRET", secret)
        step = make(Hash, fields="e", secret={"env": "RELAY_TEST_SECRET"})
        assume(step.settings.secret.problem is None)
        key = step.settings.secret.reveal().encode()
    expected = hmac.digest(key, text.encode(), "sha256").hex()
    assert step.apply(make_event({"e": text})).data == {"e": expected}


@pytest.mark.parametrize("body", [b'{"p": {"e": null}}', b'{"p":{"e":"[REDACTED]"}}', b'{"p": {"f": "x"}}', b'{"p":1}'])
def test_hash_leaves_nothing_and_what_is_redacted(hashed, body):
    assert hashed(body, ["p.e", "e"]).body == body


def test_a_short_secret_is_a_warning(monkeypatch):
    monkeypatch.setenv("RELAY_TEST_SECRET", SECRET[1:])
    settings = make(Hash, fields="pii", secret={"env": "RELAY_TEST_SECRET"}).settings
    ((about, reason),) = settings.warnings()
    assert about == "secret"
    assert reason.endswith("has less than 16 characters, and can be guessed")
    assert SECRET[1:] not in reason


def test_the_personal_fields_are_those_of_the_facts():
    if not FACTS.is_file():
        pytest.skip(f"the facts are not here: {FACTS}")
    with FACTS.open() as lines:
        marked = [row for row in csv.DictReader(lines) if row["pii"]]
    assert {".".join(path) for path in find_personal_fields()} == {row["custom_http_path"] for row in marked} - {""}
    assert find_personal_fields()[:3] == (("user", "user_id"), ("user", "external_user_id"), ("properties", "ad_id"))
    placed = {row["field"] for row in marked if row["custom_http_path"]}
    assert {row["field"] for row in marked} - placed == {"first_name", "last_name", "dob", "home_city"}


def test_redact_removes_all_personal_fields_of_real_events(make_event, samples):
    redact, personal = make(Redact, fields="pii"), find_personal_fields()
    for body in samples.values():
        before, after = orjson.loads(body), redact.apply(make_event(body)).data
        for *outer, name in personal:
            before.get(*outer, {}).pop(name, None)
        assert after == before


def test_pii_may_stand_beside_other_fields():
    fields = make(Redact, fields=["properties.push_token", "pii"]).settings.fields
    assert {*fields} == {("properties", "push_token"), *find_personal_fields()}
    assert make(Redact, fields=["pii", "x"]).settings.model_dump(mode="json")["fields"] == ["pii", "x"]
    assert make(Redact, fields=["x", "y"]).settings.model_dump(mode="json")["fields"] == ["x", "y"]
