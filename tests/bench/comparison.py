"""`relay diff` over the whole journal, again and again, beside the daemon under test."""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from daemon import TOKEN

CHANGED: Final = 'filters = ["compared"]\n[filter.compared]\ntype = "redact"\nfields = ["user.user_id"]\n'
"""What the new configuration adds to its last connector."""


@asynccontextmanager
async def compared(folder: Path) -> AsyncIterator[None]:
    """Compare the events with a new configuration, whose filter changes each, until the end."""
    new = folder / "new.d"
    new.mkdir()
    (new / "bench.toml").write_text((folder / "conf.d" / "bench.toml").read_text() + CHANGED)
    async with asyncio.TaskGroup() as group:
        comparing = group.create_task(_compare(folder, new), name="relay diff")
        yield
        comparing.cancel()


async def _compare(folder: Path, new: Path) -> None:
    places = "--conf", f"{folder}/conf.d", "--state", f"{folder}/state"
    arguments = ["-m", "relay", "diff", str(new), "--since", "2000-01-01", *places]
    environment = os.environ | {"BENCHMARK_TOKEN": TOKEN}
    while True:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, stdout=DEVNULL, stderr=DEVNULL, env=environment
        )
        try:
            if await process.wait() != 1:
                raise RuntimeError("relay diff has found no difference")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
