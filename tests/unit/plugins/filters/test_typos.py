"""Paths that lead to no field of Braze's events, but are like one that does."""

import orjson
import pytest

from relay_plugins.filters import Drop, Hash, Keep, Only, Redact, Rename, Sample, Set
from relay_plugins.filters.field import describe_typos
from tests.unit.plugins.filters.make import make

TYPO = "properties.email_adress"
SAID = f"no event of Braze has the field {TYPO}: did you mean properties.email_address?"


def warn(path: str) -> list[str]:
    return [reason for _, reason in describe_typos("fields", [tuple(path.split("."))])]


@pytest.mark.parametrize(
    ("cls", "settings", "about"),
    [
        (Redact, {"fields": ["pii", TYPO]}, "fields"),
        (Only, {"fields": [TYPO]}, "fields"),
        (Rename, {"fields": {TYPO: "properties.emial_address"}}, "fields"),
        (Set, {"copies": {"properties.emial_address": TYPO}}, "copies"),
        (Sample, {"rate": 0.5, "key": TYPO}, "key"),
        (Keep, {"field": ["event_type", TYPO], "exists": True}, "field"),
        (Drop, {"all": [{"any": [{"not": {"field": TYPO, "equals": 1}}]}]}, "all"),
    ],
)
def test_every_filter_warns_of_a_path_that_is_probably_a_typo(cls, settings, about):
    assert [*make(cls, **settings).settings.warnings()] == [(about, SAID)]


def test_hash_warns_beside_its_secret(monkeypatch):
    monkeypatch.setenv("RELAY_TEST_SECRET", "short")
    settings = make(Hash, fields=TYPO, secret={"env": "RELAY_TEST_SECRET"}).settings
    assert [about for about, _ in settings.warnings()] == ["fields", "secret"]


@pytest.mark.parametrize("written", ["PII", "pi"])
@pytest.mark.parametrize(("cls", "more"), [(Redact, {}), (Hash, {"secret": {"env": "RELAY_TEST_SECRET"}})])
def test_a_typo_of_all_personal_fields_is_a_warning(monkeypatch, cls, more, written):
    monkeypatch.setenv("RELAY_TEST_SECRET", "a secret of sixteen characters")
    said = f"{written} is a field of this name: did you mean pii, which stands for all personal fields?"
    assert [*make(cls, fields=written, **more).settings.warnings()] == [("fields", said)]
    assert [*make(cls, fields=["pii", "properties.pi"], **more).settings.warnings()] == []


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("properties.email_addres", "properties.email_address"),
        ("properties.emailAddress", "properties.email_address"),
        ("proprties.email_address", "properties.email_address"),
        ("properties.Gender", "properties.gender"),
        ("user.external_userid", "user.external_user_id"),
        ("user.time_zone", "user.timezone"),
    ],
)
def test_a_typo_has_the_path_that_was_meant(path, meant):
    assert warn(path) == [f"no event of Braze has the field {path}: did you mean {meant}?"]


@pytest.mark.parametrize(
    "path",
    [
        "email_adress",
        "user.email",
        "user.user_name",
        "properties.campaign",
        "properties.product_ids",
        "properties.address_line1",
        "properties.*.email_adress",
        "properties.properties.email_adress",
        "properties.custom_attributes.emailAddress",
        "properties.custom_properties.prize",
        "context.traits.email_adress",
    ],
)
def test_a_field_of_others_is_no_typo(path):
    assert warn(path) == []


def test_no_field_of_real_events_is_a_typo(samples):
    events = [orjson.loads(body) for body in samples.values()]
    paths = {(part, name) for event in events for part in ("user", "properties") for name in event.get(part, {})}
    assert len(paths) > 100
    assert [*describe_typos("fields", paths)] == []
