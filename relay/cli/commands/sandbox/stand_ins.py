"""`relay sandbox braze`, `heap` and `segment`: the stand-ins by themselves, to test other integrations against."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any

import click

from relay.cli.commands.sandbox.switches import pick_switches, switch_options
from relay.cli.options import complete_entry
from relay.sandbox import (
    ApiSwitches,
    CohortApi,
    CohortSwitches,
    CurrentsSender,
    CurrentsSwitches,
    HeapApi,
    HeapDoors,
    HeapWebhook,
    Profile,
    SandboxClock,
    SegmentApi,
    SegmentSwitches,
    SegmentSync,
    StandIn,
    Stream,
    SyncSwitches,
    WebhookSwitches,
    make_cohort_doors,
    make_currents_doors,
    make_shared_doors,
)

Work = Callable[[], Coroutine[Any, Any, None]]

speed_option = click.option(
    "--speed", default=1.0, show_default=True, type=click.FloatRange(0.001), help="How fast its clock goes."
)


def _read_address(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, int]:
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal():
        raise click.BadParameter(f"{value!r} is not HOST:PORT", ctx, param)
    return host.strip("[]"), int(port)


@click.command
@click.option("--listen", default="127.0.0.1:9101", show_default=True, callback=_read_address, help="HOST:PORT.")
@click.option(
    "--profiles",
    default=1000,
    show_default=True,
    type=click.IntRange(0),
    help="Users user-0, user-1, ... (made-up events are of the first 500).",
)
@click.option("--partner", default="heap", show_default=True, help="The partner's name in the paths.")
@click.option("--partner-key", default="partner", show_default=True, help="The partner key that the stand-in accepts.")
@click.option("--data-import-key", default="import", show_default=True, help="The data import key that it accepts.")
@click.option("--rest-key", default="rest", show_default=True, help="The REST key that /users/track accepts.")
@speed_option
@click.option("--send-to", metavar="URL", help="Have a Current, and send its events there.")
@click.option("--token-env", metavar="NAME", default="RELAY_TOKEN", show_default=True, help="Variable with its token.")
@click.option("--rate", default=0.0, show_default=True, type=click.FloatRange(0), help="Events a real second, made up.")
@click.option(
    "--events",
    default=("*",),
    multiple=True,
    shell_complete=complete_entry,
    help="Which, as in conf.d: a type, group, channel, glob.",
)
@click.option("--connections", default=4, show_default=True, type=click.IntRange(1), help="Requests at the same time.")
@switch_options(CohortSwitches, CurrentsSwitches)
def braze(
    listen: tuple[str, int],
    profiles: int,
    speed: float,
    send_to: str | None,
    token_env: str,
    rate: float,
    events: Sequence[str],
    connections: int,
    **options: Any,
) -> None:
    """Run a stand-in of Braze until Ctrl-C: its cohort API, /users/track and, with --send-to, a Current.

    The API is /partners/heap/cohorts, /partners/heap/cohorts/users and /users/track. The Current has a queue and
    batches per event type, probes, Send Test Events, and 5 days of errors until it is disabled. The paths below take
    and give JSON. The options from --fail on are switches, which /_sandbox/switches changes while the stand-in runs.

    Exit codes: 0 ended; 1 cannot listen.

    \b
    /_sandbox/switches    GET, POST {"success": 200, "repeat": 0.1}
    /_sandbox/faults      POST [429, {"status": 500, "applied": true}, {"cut": true}, {"status": 200, "delay": 2}]
    /_sandbox/clock       GET, POST {"forward": 86400}
    /_sandbox/profiles    POST [{"external_id": "anna", "aliases": {"crm": "17"}, "devices": ["d"]}]
    /_sandbox/members     GET ?cohort=ID                  (or the name of a cohort, here and below)
    /_sandbox/audience    GET ?includes=ID&excludes=ID    (each may be repeated)
    /_sandbox/attributes  GET ?user=ID
    /_sandbox/books       GET
    With --send-to:
    /_sandbox/currents    GET: whether it is stopped and why, what became of the events
    /_sandbox/send        POST {"type": "users.messages.email.Send", "count": 3, "odd": "late",
                                "user": {"external_user_id": "anna"}, "properties": {...}}
    /_sandbox/campaign    POST {"type": "users.messages.email.Send", "includes": [ID], "excludes": []}
    /_sandbox/probe       POST {"token": "wrong"}         (or {}: the right one)
    /_sandbox/test_events, /_sandbox/flush, /_sandbox/enable    POST
    """
    clock = SandboxClock(speed)
    keys = {name: options[name] for name in ("partner", "partner_key", "data_import_key", "rest_key")}
    users = [Profile(f"user-{number}") for number in range(profiles)]
    api = CohortApi(users, clock=clock, **keys, **pick_switches(CohortSwitches, options))
    api.doors = make_cohort_doors(api)
    if send_to is None:
        api.doors += make_shared_doors(api, clock, api)
        return _serve(api, listen)
    switches = CurrentsSwitches(**pick_switches(CurrentsSwitches, options))
    token = os.environ.get(token_env)
    sender = CurrentsSender(send_to, token=token, connections=connections, switches=switches, clock=clock)
    try:
        stream = Stream.select(sender, events)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--events") from None
    api.doors += [*make_shared_doors(api, clock, api, sender), *make_currents_doors(api, sender, stream)]
    return _serve(api, listen, sender, sender.run, lambda: sender.feed(stream.make_events(rate)))


@click.command
@click.option("--listen", default="127.0.0.1:9102", show_default=True, callback=_read_address, help="HOST:PORT.")
@click.option("--app-id", default="1", show_default=True, help="The app it knows.")
@click.option("--api-key", default="key", show_default=True, help="The key that the deletion of users accepts.")
@click.option("--webhook-token", help="The bearer token that /webhook wants.")
@speed_option
@click.option("--segments-url", metavar="URL", help="Where segments are synced to, every 4 hours of its clock.")
@click.option("--segments-secret", default="secret", show_default=True, help="Signs these calls.")
@switch_options(ApiSwitches, WebhookSwitches, SyncSwitches)
def heap(
    listen: tuple[str, int],
    app_id: str,
    api_key: str,
    webhook_token: str | None,
    speed: float,
    segments_url: str | None,
    segments_secret: str,
    **options: Any,
) -> None:
    """Run a stand-in of Heap until Ctrl-C: its server-side API, the webhook for Currents, and segments.

    The API is /api/track, /api/add_user_properties, /api/add_account_properties and /api/v1/identify. Users are deleted
    by /api/public/v0/auth_token, user_deletion and deletion_status. Currents are taken at /webhook. With --segments-url
    it syncs segments every 4 hours, signed as Heap does. The paths below take and give JSON. The options from --fail on
    are switches, which /_sandbox/switches changes while the stand-in runs.

    Exit codes: 0 ended; 1 cannot listen.

    \b
    /_sandbox/switches    GET, POST {"over_limit": "drop"}
    /_sandbox/faults      POST [429, {"status": 500, "applied": true}, {"cut": true}, {"status": 200, "delay": 2}]
    /_sandbox/clock       GET, POST {"forward": 14400}
    /_sandbox/events      GET, ?identity=ID
    /_sandbox/books       GET: counts, also of the events of Currents that Heap forgets for lack of an identity
    /_sandbox/users, /_sandbox/accounts    GET
    /_sandbox/capture     POST {"event": "Checkout Started", "identities": ["anna"]}    (what Heap sees for itself)
    /_sandbox/segments    POST {"id": 1, "name": "Lost carts", "did": EVENT, "did_not": EVENT}; the same id: a change
    /_sandbox/members     GET ?segment=1
    With --segments-url:
    /_sandbox/sync        POST
    /_sandbox/sample, /_sandbox/drain    POST {"segment": 1}
    """
    clock = SandboxClock(speed)
    sync = SegmentSync(segments_url, segments_secret, **pick_switches(SyncSwitches, options)) if segments_url else None
    api = HeapApi(app_id, api_key=api_key, clock=clock, **pick_switches(ApiSwitches, options))
    webhook = HeapWebhook(token=webhook_token, take=api.remember, **pick_switches(WebhookSwitches, options))
    doors = HeapDoors(api, sync, webhook)
    owners = [api, webhook] if sync is None else [api, webhook, sync]
    api.doors = [*webhook.list_routes(), *doors.list_routes(), *make_shared_doors(api, clock, *owners)]
    if sync is None:
        return _serve(api, listen)
    return _serve(api, listen, sync, lambda: doors.keep_syncing(clock))


@click.command
@click.option("--listen", default="127.0.0.1:9103", show_default=True, callback=_read_address, help="HOST:PORT.")
@click.option("--write-key", default="key", show_default=True, help="The write key that it knows.")
@speed_option
@switch_options(SegmentSwitches)
def segment(listen: tuple[str, int], write_key: str, speed: float, **options: Any) -> None:
    """Run a stand-in of Segment until Ctrl-C: its batch API, /v1/batch.

    The paths below take and give JSON. The options from --fail on are switches, which /_sandbox/switches changes while
    the stand-in runs.

    Exit codes: 0 ended; 1 cannot listen.

    \b
    /_sandbox/switches    GET, POST {"wrong_key": "refuse"}
    /_sandbox/faults      POST [429, {"status": 500, "applied": true}, {"cut": true}, {"status": 200, "delay": 2}]
    /_sandbox/clock       GET, POST {"forward": 86400}
    /_sandbox/events      GET, ?user=ID                   (userId or anonymousId)
    /_sandbox/books       GET
    """
    clock = SandboxClock(speed)
    api = SegmentApi(write_key, clock=clock, **pick_switches(SegmentSwitches, options))
    api.doors += make_shared_doors(api, clock, api)
    _serve(api, listen)


def _serve(
    stand_in: StandIn, listen: tuple[str, int], client: CurrentsSender | SegmentSync | None = None, *work: Work
) -> None:
    stand_in.listen = listen
    try:
        asyncio.run(_until_stopped(stand_in, client, work))
    except OSError as error:
        raise click.ClickException(f"cannot listen on {listen[0]}:{listen[1]}: {error.strerror or error}") from None


async def _until_stopped(stand_in: StandIn, client: CurrentsSender | SegmentSync | None, work: Sequence[Work]) -> None:
    """Serve until a signal comes, with the client's work as tasks."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as open_things:
        await open_things.enter_async_context(stand_in)
        if client is not None:
            await open_things.enter_async_context(client)
        click.echo(f"listening on {stand_in.url}")
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(), name=f"stand-in {number}") for number, one in enumerate(work)]
            await stop.wait()
            for task in tasks:
                task.cancel()
