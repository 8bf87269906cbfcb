"""`make drill`: plays the scenes and prints what each voice said, and within how many seconds.

Exits with 1 if a voice did not say what it must.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from tests.drill.page import rewrite
from tests.drill.played import Played, told
from tests.drill.scenes import SCENES, Scene
from tests.drill.stage import CannotBeShown, small_disk, stage
from tests.drill.voices import listen_all
from tests.forks import Forks, forks

AT_A_TIME: Final = 3


async def play(scene: Scene, folder: Path, forks: Forks) -> Played:
    """Bring the trouble about, listen, undo it, and listen again. Raises CannotBeShown."""
    async with AsyncExitStack() as stack:
        disk = await stack.enter_async_context(small_disk(folder / "disk", scene.disk)) if scene.disk else None
        it = await stack.enter_async_context(stage(folder, forks, disk))
        await scene.prepare(it)
        it.strike()
        await scene.cause(it)
        trouble = await listen_all(it, scene.says)
        it.strike()
        await scene.mend(it)
        over = await listen_all(it, scene.over)
        return Played(scene, trouble, over)


async def drill(scenes: Sequence[Scene], forks: Forks) -> list[Played]:
    """Play some at a time; print each once it is over. What cannot be shown here is said and left out."""
    turns, played = asyncio.Semaphore(AT_A_TIME), list[Played]()

    async def one(scene: Scene) -> None:
        async with turns:
            with tempfile.TemporaryDirectory(prefix="relay-drill-") as folder:
                try:
                    played.append(done := await play(scene, Path(folder), forks))
                except CannotBeShown as error:
                    print(f"{scene.name}: not shown: {error}\n", flush=True)
                else:
                    print(f"{told(done)}\n", flush=True)

    async with asyncio.TaskGroup() as group:
        for scene in scenes:
            group.create_task(one(scene), name=scene.name)
    return played


def main() -> None:
    """Play the scenes that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.drill", description=__doc__)
    parser.add_argument("--page", action="store_true", help="write what was said into docs/guide")
    parser.add_argument("scene", nargs="*", help=f"one of {', '.join(one.name for one in SCENES)}; left out: all")
    given = parser.parse_args()
    if unknown := {*given.scene} - {one.name for one in SCENES}:
        parser.error(f"there is no scene {', '.join(sorted(unknown))}")
    chosen = [one for one in SCENES if not given.scene or one.name in given.scene]
    began = time.monotonic()
    with forks() as running:
        played = asyncio.run(drill(chosen, running))
    if given.page:
        rewrite(played)
    silent = sum(one.seconds is None for done in played for one in (*done.trouble, *done.over))
    print(
        f"{len(played)} of {len(chosen)} scenes in {time.monotonic() - began:.0f} s; voices that were silent: {silent}"
    )
    sys.exit(1 if silent else 0)


if __name__ == "__main__":
    main()
