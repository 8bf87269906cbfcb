"""What authors say of their settings is found where it is asked for: in the schema, and in the help of `relay add`."""

from collections.abc import Iterator

import pytest
from pydantic import Field

from relay.api import BatchSettings, RetrySettings, Settings
from relay.api.settings import replace_defaults
from relay.config.descriptions import read_descriptions, summarize
from relay.config.model import OWN_TABLES
from relay.config.plugins.registry import KINDS, Registry
from relay.config.tls import TlsSettings


class Outer:
    class Inner(Settings):
        """Settings below another class, as connectors have them."""

        one: int = 1
        """The first,
        on two lines."""
        two: int = Field(2, description="Said by Field.")
        """Not said here."""
        bare: int = 3
        unlike: str = "unlike"
        """No description of `last`."""

        def contradictions(self):
            """Nor this."""
            return ()

        last: int = 5

    class Heir(Inner):
        one: int = 7
        unlike: str = "other"
        """Said anew."""


INNER = {"one": "The first,\non two lines.", "two": "Said by Field.", "unlike": "No description of `last`."}
ANEW = {"two": "Said by Field.", "unlike": "Said anew."}


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (Outer.Inner, INNER),
        (Outer.Heir, ANEW),
        (replace_defaults(Outer.Inner, {"one": 9, "last": 9}), INNER),
        (replace_defaults(Outer.Heir, {"unlike": "9"}), ANEW),
        (type("Unseen", (Outer.Inner,), {}), INNER),
    ],
    ids=["below another class", "defined anew", "other defaults", "other defaults of an heir", "without source"],
)
def test_the_text_below_a_setting_is_its_description(model: type[Settings], said: dict[str, str]) -> None:
    assert read_descriptions(model) == said


def test_a_summary_is_the_first_paragraph_as_plain_text() -> None:
    text = 'A list,\nsuch as `["a"]`, or\n`none`.\n\nMore.'
    assert summarize(text) == 'A list, such as ["a"], or `none`.'


def models() -> Iterator[tuple[str, type[Settings]]]:
    """All settings that come with relay, and the tables within them."""
    yield from OWN_TABLES.items()
    registry = Registry.discover(())
    for kind, (_, base) in KINDS.items():
        yield kind, base
        yield from ((f"{kind} {name}", plugin.Settings) for name, plugin in registry.get_types(kind).items())
    yield from {"batch": BatchSettings, "retry": RetrySettings, "tls": TlsSettings}.items()


@pytest.mark.parametrize(("name", "model"), [*models()])
def test_every_setting_has_a_description(name: str, model: type[Settings]) -> None:
    assert model.model_fields.keys() - read_descriptions(model).keys() == set(), name
