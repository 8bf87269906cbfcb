"""The page Activity offers every kind of entry."""

import pytest

pytest.importorskip("jinja2", reason="the console takes the package currents-relay[console]")

from relay.console.pages.activity import GROUPS
from relay.kinds import KINDS


def test_every_kind_of_entry_is_in_one_group() -> None:
    assert sorted(kind for group in GROUPS.values() for kind in group) == sorted(KINDS)
