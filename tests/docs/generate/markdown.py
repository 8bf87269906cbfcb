"""The parts of which generated pages are made."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

GENERATED: Final = "<!-- Generated from {source} by `make docs`. Change the source, not this page. -->"


def document(title: str, source: str, parts: Iterable[str]) -> str:
    """Make a page. `source` names the code that the page is made from; `parts` are paragraphs, headings and tables."""
    return "\n\n".join([GENERATED.format(source=source), f"# {title}", *(part.strip("\n") for part in parts)]) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Make a table of cells that are Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines)


def cell(text: str) -> str:
    """Make Markdown fit into a cell of a table: on one line, with its bars escaped."""
    return re.sub(r"(?<!\\)\|", r"\|", " ".join(text.split()))


def code(text: str) -> str:
    """Quote text as code; empty text stays empty."""
    return f"`{text}`" if text else ""
