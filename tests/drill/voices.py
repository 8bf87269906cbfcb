"""The voices of relay: what each says at a moment, as text."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import orjson

from relay.words import format_time
from tests.drill.stage import Stage, finding_text

NOT_TOLD: Final = ("timestamp", "level", "message")
DEADLINE_S: Final = 75.0
"""What takes a minute at most is heard by then."""
PAUSE_S: Final = 0.3


async def status(stage: Stage) -> str:
    """`relay status`, without its tables."""
    code, text = await stage.relay("status")
    head, tables, notes = text.partition("\nconnector ")
    said = notes.partition("\n\n")[2] if tables else head
    return f"exit code {code}\n{said}".strip()


async def doctor(stage: Stage) -> str:
    """`relay doctor`, what was not there before the trouble."""
    new = [one for one in await stage.findings() if finding_text(one) not in stage.known_findings]
    lines = [f"{one['level']:<8} {one['about']:<20} {one['said']}{_advice(one)}" for one in new]
    return "\n".join(lines) or "nothing new"


def _advice(one: Mapping[str, str]) -> str:
    return f"\n{'':<29} -> {one['advice']}" if one["advice"] else ""


async def log(stage: Stage) -> str:
    """The log at level warning and above."""
    return "\n".join(_line(stage, one) for one in stage.logged())


async def whole_log(stage: Stage) -> str:
    """All of the log: that it is over is no warning."""
    return "\n".join(_line(stage, one) for one in stage.logged_at_all())


def _line(stage: Stage, line: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in line.items() if name not in NOT_TOLD}
    return stage.tidy(f"{line['level']}  {line['message']}  {orjson.dumps(rest).decode()}")


async def metric(stage: Stage) -> str:
    """All metrics, a line each."""
    at = stage.daemon.logged("relay runs")[-1]["metrics"][0]
    return await _get(f"{at}/metrics")


async def readyz(stage: Stage) -> str:
    """What a load balancer is told."""
    return await _get(f"{stage.daemon.url}/readyz", with_status=True)


async def _get(url: str, *, with_status: bool = False) -> str:
    try:
        async with aiohttp.request("GET", url, timeout=aiohttp.ClientTimeout(total=10)) as answer:
            text = (await answer.text()).strip()
            return f"HTTP {answer.status}: {text}" if with_status else text
    except (aiohttp.ClientError, TimeoutError) as error:
        return f"no answer: {error}"


async def sender(stage: Stage) -> str:
    """What the sender gets."""
    return stage.tidy(stage.load.refusal)


async def alert(stage: Stage) -> str:
    """The messages of the alert."""
    return stage.tidy("\n\n".join(one["text"] for one in stage.messages()))


async def history(stage: Stage) -> str:
    """`relay history`, what has come since."""
    since = format_time(time.time() - (time.monotonic() - stage.struck) - 1)
    _, text = await stage.relay("history", "--since", since)
    return text


VOICES: Final[Mapping[str, Callable[[Stage], Awaitable[str]]]] = {
    "sender": sender,
    "log": log,
    "status": status,
    "doctor": doctor,
    "readyz": readyz,
    "metric": metric,
    "alert": alert,
    "history": history,
    "whole log": whole_log,
}
WHOLE: Final = ("status", "doctor", "alert", "readyz", "sender")
"""Of these all is shown, of the others the lines that were waited for."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a voice said of a trouble, or of its end."""

    voice: str
    seconds: float | None
    """After the trouble began; None: it did not say what it must."""
    text: str
    """What it said; what it said last, if that is not what it must."""


async def listen(stage: Stage, voice: str, wanted: str) -> Heard:
    """Ask again and again until it says that: every line of `wanted` is a regular expression."""
    patterns = [re.compile(one, re.MULTILINE) for one in wanted.splitlines()]
    while True:
        text = await VOICES[voice](stage)
        passed = time.monotonic() - stage.struck
        if all(one.search(text) for one in patterns):
            return Heard(voice, passed, text if voice in WHOLE else _matching(text, patterns))
        if passed > DEADLINE_S:
            return Heard(voice, None, text if voice != "metric" else f"not {wanted}")
        await asyncio.sleep(PAUSE_S)


def _matching(text: str, patterns: list[re.Pattern[str]]) -> str:
    found = [line for line in text.splitlines() if any(one.search(line) for one in patterns)]
    return "\n".join(found[:3])


async def listen_all(stage: Stage, wanted: Mapping[str, str]) -> list[Heard]:
    """Ask all voices at the same time; those that were heard first come first."""
    heard = await asyncio.gather(*(listen(stage, voice, text) for voice, text in wanted.items()))
    return sorted(heard, key=lambda one: (one.seconds is None, one.seconds or 0))
