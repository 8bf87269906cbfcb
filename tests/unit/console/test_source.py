"""The URLs that a sender gets, from the settings in force."""

from typing import Any

import pytest

pytest.importorskip("jinja2", reason="the console takes the package currents-relay[console]")

from relay.console.pages.settings_table import ShownSetting
from relay.console.pages.source import list_urls


def make_settings(**values: Any) -> list[ShownSetting]:
    return [ShownSetting(name.replace("__", "."), value, "", False) for name, value in values.items()]


@pytest.mark.parametrize(
    ("ingest", "urls"),
    [
        ({"listen": ["127.0.0.1:8080"]}, ["http://127.0.0.1:8080/currents"]),
        ({"listen": "[::1]:80"}, ["http://[::1]:80/currents"]),
        ({"listen": ["unix:/run/x", "0.0.0.0:443"], "tls__certificate": "a"}, ["https://0.0.0.0:443/currents"]),
        ({}, []),
    ],
)
def test_a_source_has_a_url_on_each_address(ingest: dict[str, Any], urls: list[str]) -> None:
    assert list_urls(make_settings(**ingest), make_settings(path="/currents")) == urls
