"""Read the pages of the documentation."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
GENERATED = ("api.md", "testing-api.md")
PROSE = [ROOT / "README.md"] + [
    page for page in PAGES if page.parent.name != "reference" and page.name not in GENERATED
]
MOST_WORDS = 30


def blocks(page: Path, language: str) -> list[str]:
    """Return the blocks of a page in one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def without_blocks(page: Path) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def sentences(page: Path) -> list[str]:
    """Return the sentences of a page's text and tables, each piece of code as one word."""
    found: list[str] = []
    for block in re.split(r"\n\s*\n", without_blocks(page)):
        table = block.lstrip().startswith("|")
        text = re.sub(r"`[^`]*`", "CODE", block)
        text = re.sub(r"<a id=[^>]*></a>", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text))
        pieces = re.split(r"\n?\|", text) if table else re.split(r"\n(?=\s*(?:[-*]|\d+\.) |#)", text)
        for piece in pieces:
            found += re.split(rf"(?<=[.!?:])\**\s+(?=[A-Z(*\"'\d]|relay ){'|;' if table else ''}", piece)
    return [one for one in found if re.search(r"\w", one)]


def long_sentences(page: Path) -> list[str]:
    """Return the sentences of a page with more than thirty words."""
    return [one for one in sentences(page) if len(one.split()) > MOST_WORDS]
