"""Finds whether the destination of a connector can be reached. Sends no event."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from relay.api import Connector
from relay.config import Configured, Redaction, read_traits
from relay.guests import contained, find_reason, read_text, run_limited

PROBE_S: Final = 8.0


class Probe(Struct, frozen=True):
    """What was found of a destination."""

    reached: bool | None
    """Whether the destination can be reached; null: only sending would tell."""
    said: str
    """What was found, in words."""
    file: str | None = None
    """The file of this machine that the connector writes, if it writes one."""


async def probe_connector(configured: Configured[Any, Any], folder: Path) -> Probe:
    """Probe a connector that need not run, within PROBE_S. `folder`: the state folder."""
    clean, about, file = Redaction(configured.settings).clean, f"connector {configured.name}", None
    try:
        async with asyncio.timeout(PROBE_S), _make_connector(configured, folder, about) as (connector, path):
            file = None if path is None else str(path)
            said = await run_limited(connector.probe, PROBE_S, f"{about}: probe")
    except TimeoutError:
        return Probe(False, f"no answer within {PROBE_S:g} s", file)
    except Exception as error:  # whatever a plugin raises says why
        return Probe(False, clean(find_reason(error)), file)
    if not said:
        return Probe(None, "not tried: only sending would tell", file)
    return Probe(True, clean(read_text(said)), file)


@asynccontextmanager
async def _make_connector(
    configured: Configured[Any, Any], folder: Path, about: str
) -> AsyncIterator[tuple[Connector, Path | None]]:
    with contained():
        connector: Connector = configured.plugin(configured.name, configured.settings, folder=folder)
        path = read_traits(connector).local_path
    try:
        yield connector, path
    finally:
        with suppress(Exception):  # it was never opened
            await run_limited(connector.release, PROBE_S, f"{about}: close")
