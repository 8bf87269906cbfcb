"""The result as a picture: how much of each target is used up. SVG by hand."""

from collections.abc import Sequence
from html import escape
from typing import Final

from figures import Results
from targets import TARGETS, Target

WIDTH: Final = 900
ROW: Final = 22
LEFT: Final = 300
UNIT: Final = 260
"""Pixels of 100 %."""
MOST: Final = 1.7
"""A longer bar is cut here."""
TOP: Final = 34
COLOURS: Final = {"met": "#2e7d32", "met when busy": "#f9a825", "not met": "#c62828"}
STYLE: Final = "text{font:12px sans-serif;fill:#24292f}.quiet{fill:#57606a}line{stroke:#57606a;stroke-dasharray:4 3}"


def draw(results: Results) -> str:
    """A bar per target that was measured; those that reach beyond the line miss it."""
    measured = [target for target in TARGETS if target.measured(results) is not None]
    height = TOP + ROW * len(measured) + 10
    line = LEFT + UNIT
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
            "<title>relay: what was measured, as a share of its target</title>",
            f"<style>{STYLE}</style>",
            f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
            f'<text x="{line}" y="18" text-anchor="middle" class="quiet">target (shorter is better)</text>',
            *_bars(measured, results),
            f'<line x1="{line}" y1="{TOP - 10}" x2="{line}" y2="{height - 6}"/>',
            "</svg>\n",
        )
    )


def _bars(targets: Sequence[Target], results: Results) -> list[str]:
    return [part for row, target in enumerate(targets) for part in _bar(TOP + ROW * row, target, results)]


def _bar(top: int, target: Target, results: Results) -> tuple[str, str, str]:
    found, share = target.measured(results), target.share(results)
    assert found is not None
    assert share is not None
    length = max(1.0, min(share, MOST) * UNIT)
    beside = LEFT + max(length, UNIT) + 8
    text = f"{target.show(found)}, target {target.wanted()}"
    return (
        f'<text x="{LEFT - 8}" y="{top + 14}" text-anchor="end">{escape(target.label)}</text>',
        f'<rect x="{LEFT}" y="{top + 3}" width="{length:.0f}" height="{ROW - 8}" '
        f'fill="{COLOURS[target.verdict(results)]}"/>',
        f'<text x="{beside:.0f}" y="{top + 14}" class="quiet">{escape(text)}</text>',
    )
