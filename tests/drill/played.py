"""What became of a scene, as text for people."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.drill.scenes import Scene
from tests.drill.voices import Heard


@dataclass(frozen=True, slots=True)
class Played:
    """What the voices said of a trouble, and of its end."""

    scene: Scene
    trouble: Sequence[Heard]
    over: Sequence[Heard]


def told(played: Played) -> str:
    """All of it."""
    scene = played.scene
    return "\n".join((f"== {scene.name}: {scene.how}", *lines(played.trouble), mended(scene), *lines(played.over)))


def mended(scene: Scene) -> str:
    """How it was undone."""
    return f"-- {scene.mended}"


def lines(heard: Sequence[Heard]) -> Iterator[str]:
    """A voice after the other, the quickest first."""
    for one in heard:
        head = f"{'SILENT' if one.seconds is None else f'{max(1, round(one.seconds))} s':>6}  {one.voice:<9}"
        first, *rest = one.text.splitlines() or [""]
        yield f"{head}  {first}".rstrip()
        yield from (f"{'':19}{line}".rstrip() for line in rest)
