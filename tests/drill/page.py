"""The page of the documentation that shows what the drill has heard."""

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.drill.played import Played, mended
from tests.drill.voices import Heard

PAGE: Final = Path(__file__).parents[2] / "docs/guide/what-you-will-see-when.md"
SAMPLE: Final = re.compile(r"<!-- drill: (\S+) -->\n```text\n(.*?)```\n", re.DOTALL)
SHOWN: Final[Mapping[str, str]] = {
    "status": "relay status",
    "alert": "alert",
    "sender": "the sender gets",
    "log": "log",
}
"""The voices that the page quotes, in this order; of the others it says only how soon they spoke."""
WIDTH: Final = 110
SAME: Final = "(the sentence of relay status)"
PASSING: Final = re.compile(
    r"(, the oldest for|; relay tries again in) [\dhms ]+|; relay (tries again|waits for the answer)|"
    r"(; full in|the journal is full at|; the oldest of them are removed in) [\w :-]+ if it goes on like this|"
    r" \(parked\.max_size\)"
)
"""What is said at one look and not at the next."""
VOLATILE: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[\d.,:TZ-]*\d[\d.,:TZ-]*|nothing(?= pending)")


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
    """What was heard in a scene, wrapped; an alert without what `relay status` says, too."""
    return "".join(f"{line}\n" for line in _lines(played))


def _lines(played: Played) -> Iterator[str]:
    by_voice = {one.voice: one for one in played.trouble}
    status = {shape(line) for line in by_voice["status"].text.splitlines()}
    for voice, title in SHOWN.items():
        if one := by_voice.get(voice):
            yield f"{title}, after {_seconds(one)}:"
            said = [SAME if voice == "alert" and shape(line) in status else line for line in one.text.splitlines()]
            yield from (wrapped for line in said if line for wrapped in _wrap(line))
    if others := [one for one in played.trouble if one.voice not in SHOWN]:
        yield f"also: {_briefly(others)}"
    yield from _wrap(f"{mended(played.scene)}: {_briefly(played.over)}", indent="")
    yield from (f"  {one.text.splitlines()[0]}" for one in played.over if one.voice == "alert")


def _wrap(line: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(
        line, WIDTH, initial_indent=indent, subsequent_indent="      ", break_long_words=False, break_on_hyphens=False
    )


def _briefly(heard: Sequence[Heard]) -> str:
    return ", ".join(f"{one.voice} after {_seconds(one)}" for one in sorted(heard, key=lambda one: one.voice))


def _seconds(one: Heard) -> str:
    return "SILENCE" if one.seconds is None else f"{max(1, round(one.seconds))} s"


def unwrapped(sample: str) -> str:
    """A sample with each line whole again."""
    return re.sub(r"\n {6}(?=\S)", " ", sample)


def shape(text: str) -> str:
    """A text without figures and times, however it is wrapped."""
    return VOLATILE.sub("#", PASSING.sub("", " ".join(text.split())))
