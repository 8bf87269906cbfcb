"""The page of the documentation that shows what the drill has heard."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.drill.played import Played, lines, mended

PAGE: Final = Path(__file__).parents[2] / "docs/guide/what-you-will-see-when.md"
SAMPLE: Final = re.compile(r"<!-- drill: (\S+) -->\n```text\n(.*?)```\n", re.DOTALL)
PASSING: Final = re.compile(
    r"(, the oldest for|; relay tries again in) [\dhms ]+|; relay (tries again|waits for the answer)|"
    r"(; full in|the journal is full at|; the oldest of them are removed in) .*"
)
"""What is said at one look and not at the next."""
VOLATILE: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[\d.,:TZ-]*\d[\d.,:TZ-]*")


def samples(page: str) -> dict[str, str]:
    """What the page shows, by scene."""
    return dict(SAMPLE.findall(page))


def rewrite(played: Sequence[Played]) -> None:
    """Put into the page what was heard. Where nothing but figures and times is other, the page stays as it is."""
    text = PAGE.read_text()
    heard = {one.scene.name: sample(one) for one in played}

    def replaced(found: re.Match[str]) -> str:
        name, before = found.groups()
        now = heard.get(name, before)
        return f"<!-- drill: {name} -->\n```text\n{before if shape(now) == shape(before) else now}```\n"

    PAGE.write_text(SAMPLE.sub(replaced, text))


def sample(played: Played) -> str:
    """What was heard in a scene."""
    return "".join(f"{line}\n" for line in _lines(played))


def _lines(played: Played) -> Iterator[str]:
    yield from lines(played.trouble)
    yield mended(played.scene)
    yield from lines(played.over)


def shape(text: str) -> list[str]:
    """Its lines without figures and times, whoever spoke first."""
    lines = (VOLATILE.sub("#", PASSING.sub("", line)).strip() for line in text.splitlines())
    return sorted(filter(None, lines))
