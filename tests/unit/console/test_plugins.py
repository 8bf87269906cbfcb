"""How the page of plugins reads the schema of a foreign type."""

import pytest

pytest.importorskip("jinja2", reason="the console takes the package currents-relay[console]")

from relay.console.pages.plugins import DescribedSetting, list_settings


def test_a_schema_is_listed_with_its_tables() -> None:
    table = {"properties": {"max": {"default": "5m", "x-units": ["s", "m"]}}}
    schema = {
        "required": ["url"],
        "properties": {
            "url": {"type": "string", "description": "Where to send."},
            "retry": {"$ref": "#/$defs/retry", "description": "Waits.", "default": {"max": "1m"}},
            "token": {"x-secret": True, "properties": {"env": {"type": "string"}}},
            "mode": {"enum": ["a", "b"], "default": "a"},
            "own": {},
            "odd": True,
        },
        "$defs": {"retry": table},
    }
    assert list_settings(schema) == [
        DescribedSetting("url", "string", "required", "Where to send."),
        DescribedSetting("retry", "", "", "Waits."),
        DescribedSetting("retry.max", "a number with a unit: s, m", '"5m"', ""),
        DescribedSetting("token", "a reference to a secret: credential, file or env", "", ""),
        DescribedSetting("mode", '"a" or "b"', '"a"', ""),
        DescribedSetting("own", "", "", ""),
    ]


def test_a_table_that_holds_itself_has_an_end() -> None:
    schema = {
        "properties": {"next": {"$ref": "#/$defs/one"}},
        "$defs": {"one": {"properties": {"next": {"$ref": "#/$defs/one"}}}},
    }
    assert list_settings(schema)[-1].name == "next.next.next.next.next"
