"""The page of settings has every setting, with what may be written and what holds if nothing is."""

import re
import tomllib
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from pydantic import Field, TypeAdapter
from pydantic.fields import FieldInfo

from relay.api import ByteSize, Duration, Secret, Settings
from relay.api.transport.route import WaySettings
from relay.config.model import OWN_TABLES
from relay.config.plugins.registry import KINDS
from relay.config.route_tests.settings import RouteTestSettings
from tests.docs.generate.builtin import builtin
from tests.docs.generate.configuration import page, settings_of
from tests.docs.generate.values import default_of, kind_of


@pytest.fixture(scope="module")
def configuration_page() -> str:
    return page()


def sections() -> Iterator[tuple[str, type[Settings], type[Settings]]]:
    """The anchor of each section, its settings, and those that other sections describe."""
    yield from ((name, model, Settings) for name, model in OWN_TABLES.items())
    for kind, (_, base) in KINDS.items():
        yield f"every-{kind}", base, Settings
        for name, plugin in builtin(kind).items():
            yield f"{kind}-{name}", plugin.Settings, base
    yield "http-connectors", WaySettings, Settings
    yield "every-test", RouteTestSettings, Settings


@pytest.mark.parametrize(("anchor", "model", "base"), [*sections()])
def test_every_setting_is_on_the_page_once(
    configuration_page: str, anchor: str, model: type[Settings], base: type[Settings]
) -> None:
    elsewhere = {*settings_of(base)}
    if issubclass(model, WaySettings) and model is not WaySettings:
        elsewhere |= settings_of(WaySettings).keys()
    for name in settings_of(model).keys() - elsewhere:
        assert configuration_page.count(f'<a id="{anchor}-{name.replace(".", "-")}"></a>') == 1, name


@pytest.mark.parametrize(("anchor", "model", "base"), [*sections()])
def test_a_default_on_the_page_is_the_default(anchor: str, model: type[Settings], base: type[Settings]) -> None:
    for name, one in settings_of(model).items():
        written = re.fullmatch(r"Default: `(.*)`\.", default_of(one.field))
        if written and not isinstance(one.field.default, Settings):
            kind: Any = Annotated[one.field.annotation, "a setting", *one.field.metadata]
            value = TypeAdapter(kind).validate_python(tomllib.loads(f"value = {written[1]}")["value"])
            assert value == one.field.get_default(call_default_factory=True), name


class Sample(Settings):
    waits: Duration = Field(5.0, gt=0, le=3600)
    room: ByteSize = Field(1 << 20, ge=16 << 20)
    keys: dict[str, Secret] = Field(default_factory=dict)
    single: int = Field(1, ge=1, le=1)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("waits", "duration, more than `0`, at most `1h`"),
        ("room", "size, at least `16MiB`"),
        ("keys", "table of references to secrets"),
        ("single", "integer, always `1`"),
    ],
)
def test_a_type_is_said_in_words(name: str, words: str) -> None:
    assert kind_of(Sample.model_fields[name]) == words


def test_a_type_without_words_is_an_error() -> None:
    with pytest.raises(LookupError, match="complex"):
        kind_of(FieldInfo(annotation=complex))


def test_a_table_of_lists_and_a_table_of_tables_have_their_plurals(configuration_page: str) -> None:
    assert "**`without`**: table of lists of texts." in configuration_page
    assert "**`fields`**: table of tables of values." in configuration_page
