"""Which user an id of a change names."""

import pytest

from relay_plugins.braze_cohorts.change import read_member


@pytest.mark.parametrize(
    ("user", "match", "member"),
    [
        ("17", "external_id", ("external_id", "17")),
        ("a:b", "alias:crm:eu", ("alias:crm:eu", "a:b")),
        ("external_id:a:b", "prefix", ("external_id", "a:b")),
        ("device_id:x", "prefix", ("device_id", "x")),
        ("alias:crm:17", "prefix", ("alias:crm", "17")),
        ("alias", "prefix", ("external_id", "alias")),
        ("crm:17", "prefix", ("external_id", "crm:17")),
        ("anna", "prefix", ("external_id", "anna")),
    ],
)
def test_what_an_id_means(user: str, match: str, member: tuple[str, str]) -> None:
    assert read_member(user, match) == member


@pytest.mark.parametrize("user", ["external_id:", "device_id:", "alias:crm:", "alias:crm", "alias:", "alias::17"])
def test_a_prefix_with_nothing_behind_it_names_nobody(user: str) -> None:
    with pytest.raises(ValueError, match="names nobody"):
        read_member(user, "prefix")
