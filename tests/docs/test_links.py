"""Every link between the pages of the documentation leads to a page, and to a place on the page."""

import re
from functools import cache
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, without_blocks

LINKED = [*PAGES, *sorted(ROOT.glob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@cache
def anchors(page: Path) -> frozenset[str]:
    """Find the anchors of a page, as GitHub makes them of headings; those of links are written out."""
    found: list[str] = []
    for heading in re.findall(r"^#{1,6} +(.*?)\s*$", without_blocks(page), re.MULTILINE):
        text = re.sub(r"<[^>]*>", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading))
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return frozenset([*found, *re.findall(r'<a (?:id|name)="([^"]*)"', page.read_text())])


def links(page: Path) -> list[tuple[Path, str, str]]:
    """Find the links of a page to files: the file, the anchor, and the link as it is written."""
    written = [link for link in LINK.findall(without_blocks(page)) if not re.match(r"[a-z]+:", link)]
    parts = [(*link.partition("#")[::2], link) for link in written]
    return [((page.parent / file).resolve() if file else page, anchor, link) for file, anchor, link in parts]


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    wrong = [
        link
        for file, anchor, link in links(page)
        if not file.exists() or (anchor and file.suffix == ".md" and file.exists() and anchor not in anchors(file))
    ]
    assert not wrong, f"{page.relative_to(ROOT)} has links that lead nowhere"


def test_anchors_are_those_of_github(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    text = "# [ingest]\n## `relay status`\n## A, b & c_d\n## [Text](x.md)\n## Same\n## Same\n```sh\n# no heading\n```\n"
    page.write_text(f'{text}<a id="batches"></a>**Batches**\n')
    assert anchors(page) == {"ingest", "relay-status", "a-b--c_d", "text", "same", "same-1", "batches"}
