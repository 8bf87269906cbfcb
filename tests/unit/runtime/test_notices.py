"""What plugins of a lane tell admins in `relay status`."""

from types import SimpleNamespace
from typing import Any

from relay.api import Connector, ConnectorSettings, Filter, FilterSettings
from relay.runtime.partitions.status import _read_notices


class Odd(Filter):
    notice = property(lambda self: 1 / 0)  # type: ignore[assignment]


def test_the_notices_of_a_connector_and_its_filters_are_told_together(tmp_path: Any) -> None:
    settings = FilterSettings(type="x")
    connector = Connector("c", ConnectorSettings(type="x"), folder=tmp_path)
    filters = [Filter("quiet", settings), Filter("names", settings), Odd("odd", settings)]
    lane: Any = SimpleNamespace(connector=connector, filters=filters)
    filters[1].notice = "names.csv:3: has no key"
    odd = "filter odd: its notice cannot be read: ZeroDivisionError: division by zero"
    assert _read_notices(lane) == f"filter names: names.csv:3: has no key; {odd}"
    connector.notice = "a disk is slow"
    assert _read_notices(lane) == f"a disk is slow; filter names: names.csv:3: has no key; {odd}"
