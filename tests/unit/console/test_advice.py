"""Links of the console in sentences of relay."""

import pytest

pytest.importorskip("jinja2", reason="the console takes the package currents-relay[console]")

from relay.console.advice import link_advice


@pytest.mark.parametrize(
    ("said", "linked"),
    [
        ("relay resume heap tries", 'relay resume heap (<a href="/connectors/heap#acts">Resume</a>) tries'),
        (
            "3 parked (relay parked list --source a_b --cause unreadable)",
            "3 parked (relay parked list --source a_b --cause unreadable"
            ' (<a href="/parked?source=a_b&amp;cause=unreadable">Parked</a>))',
        ),
        (
            "until relay check; then relay reload",
            'until relay check (<a href="/files">Configuration</a>);'
            ' then relay reload (<a href="/files#reload">Reload</a>)',
        ),
        ("<b>relay resume <i>", "&lt;b&gt;relay resume &lt;i&gt;"),
        ("relay replay, \u202e", "relay replay, \\u202e"),
    ],
)
def test_a_command_has_a_link_to_the_page_that_does_the_same(said: str, linked: str) -> None:
    assert link_advice(said) == linked


def test_the_name_at_the_head_of_a_sentence_leads_to_its_page() -> None:
    said = link_advice("crm: failing; relay resume crm tries", "/connectors/crm")
    assert said.startswith('<a href="/connectors/crm">crm</a>: failing; relay resume crm (<a href=')
    assert link_advice("<crm>: failing", "/x") == '<a href="/x">&lt;crm&gt;</a>: failing'
