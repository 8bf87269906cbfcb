"""`relay sandbox braze` and `relay sandbox heap`: the stand-ins by themselves, to test other integrations against."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

import click

from relay.sandbox.clock import Clock
from relay.sandbox.cohorts import CohortApi, Profile
from relay.sandbox.doors import SYNC_S, HeapDoors, braze_doors
from relay.sandbox.segments import SegmentSync
from relay.sandbox.server import StandIn
from relay.sandbox.track import HeapApi

speed_option = click.option(
    "--speed", default=1.0, show_default=True, type=click.FloatRange(0.001), help="How fast its clock goes."
)


def _listen(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, int]:
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal():
        raise click.BadParameter(f"{value!r} is not HOST:PORT", ctx, param)
    return host.strip("[]"), int(port)


@click.command
@click.option("--listen", default="127.0.0.1:9101", show_default=True, callback=_listen, help="HOST:PORT.")
@click.option("--profiles", default=1000, show_default=True, type=click.IntRange(0), help="Users user-0, user-1, ...")
@click.option("--partner", default="heap", show_default=True, help="The partner's name in the paths.")
@click.option("--partner-key", default="partner", show_default=True, help="What it takes for the partner's key.")
@click.option("--data-import-key", default="import", show_default=True, help="... for the data import key.")
@click.option("--rest-key", default="rest", show_default=True, help="... for a REST key, by /users/track.")
@click.option("--success", default=201, show_default=True, type=click.IntRange(200, 299), help="Its good answer.")
@click.option("--hourly", default=250_000, show_default=True, type=click.IntRange(0), help="Requests an hour.")
@click.option("--delay", default=0.0, show_default=True, type=click.FloatRange(0), help="Seconds that a change takes.")
@speed_option
def braze(listen: tuple[str, int], profiles: int, speed: float, **options: Any) -> None:
    """Braze's REST API for cohorts and attributes, until Ctrl-C.

    Beside it, as JSON: GET /_sandbox/members?cohort=ID, /_sandbox/audience?includes=ID&excludes=ID,
    /_sandbox/attributes?user=ID, /_sandbox/books; POST /_sandbox/profiles [{"external_id", "aliases": {label: name},
    "devices": []}], /_sandbox/faults [{"status": 500, "applied": true}].
    """
    users = [Profile(f"user-{number}") for number in range(profiles)]
    api = CohortApi(users, clock=Clock(speed), **options)
    api.doors = braze_doors(api)
    _serve(api, listen)


@click.command
@click.option("--listen", default="127.0.0.1:9102", show_default=True, callback=_listen, help="HOST:PORT.")
@click.option("--app-id", default="1", show_default=True, help="The app it knows.")
@click.option("--per-app", default=15_000, show_default=True, type=click.IntRange(1), help="Events a minute.")
@click.option("--per-identity", default=1000, show_default=True, type=click.IntRange(1), help="... of one identity.")
@click.option("--segments-url", metavar="URL", help="Where segments are synced to, every 4 hours of its clock.")
@click.option("--page", default=1000, show_default=True, type=click.IntRange(1), help="Users of a page.")
@click.option("--repeat-pages", "repeat", is_flag=True, help="Every page of a sync comes twice.")
@click.option("--shuffle-pages", "shuffle", is_flag=True, help="Pages come in any order.")
@click.option("--lose-last-page", "lose", is_flag=True, help="The last page of a sync never comes.")
@click.option("--segments-secret", default="secret", show_default=True, help="Signs these calls.")
@speed_option
def heap(
    listen: tuple[str, int],
    segments_url: str | None,
    segments_secret: str,
    page: int,
    repeat: bool,
    shuffle: bool,
    lose: bool,
    speed: float,
    **options: Any,
) -> None:
    """Heap's server-side API, and its segments, until Ctrl-C.

    Beside it, as JSON: GET /_sandbox/events?identity=ID, /_sandbox/users, /_sandbox/books; POST /_sandbox/capture
    {"event", "identities": []}, /_sandbox/segments {"id", "name", "did": EVENT, "did_not": EVENT}, /_sandbox/sync,
    /_sandbox/faults [429, 500].
    """
    clock = Clock(speed)
    ways: dict[str, Any] = {"page": page, "repeat": repeat, "shuffle": shuffle, "lose": lose}
    sync = SegmentSync(segments_url, segments_secret, **ways) if segments_url else None
    api = HeapApi(clock=clock, **options)
    doors = HeapDoors(api, sync)
    api.doors = doors.routes()

    async def syncing() -> None:
        if sync is not None:
            async with sync:
                await doors.keep_syncing(clock.real(SYNC_S))

    _serve(api, listen, syncing())


def _serve(stand_in: StandIn, listen: tuple[str, int], beside: Coroutine[Any, Any, None] | None = None) -> None:
    stand_in.listen = listen
    try:
        asyncio.run(_until_stopped(stand_in, beside))
    except OSError as error:
        raise click.ClickException(f"cannot listen on {listen[0]}:{listen[1]}: {error.strerror or error}") from None


async def _until_stopped(stand_in: StandIn, beside: Coroutine[Any, Any, None] | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(beside, name="sync segments") if beside else None
        async with stand_in:
            click.echo(f"listening on {stand_in.url}")
            await stop.wait()
        if task:
            task.cancel()
