"""Status, control and taps over the admin API. Blocking work runs in a thread.

Pauses, replays and parked events are changed in the store, as the command line does without a running relay.
The lanes notice a change within a second.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from math import isfinite
from typing import Annotated, Final

import msgspec
from aiohttp import web
from msgspec import Struct
from msgspec.structs import replace

from relay.admin.acts import make_forget_entry, make_pause_entry, make_refused_entry, make_resume_entry
from relay.admin.control import Control
from relay.admin.responses import convert_content, make_answer, read_asker, read_content, send_lines
from relay.config import LOG
from relay.status import (
    ListenerStatus,
    Status,
    diagnose,
    mark_unavailable,
    merge_listeners,
    read_cluster_status,
    take_stored,
)
from relay.store import HistoryQuery, Unavailable
from relay.threads import ADMIN

TAPS: Final = 8
"""Live taps at a time."""


class RefusedAction(Struct, frozen=True, kw_only=True):
    """An action that a client of the admin API refused to its user."""

    subject: Annotated[str, msgspec.Meta(min_length=1)]
    """The subject, such as "connector heap" or "relay"."""
    refused: Annotated[str, msgspec.Meta(min_length=1)]
    """The action in words. The first 100 characters are kept."""


class StatusHandlers:
    """The handlers of status and control."""

    def __init__(self, control: Control, listeners: Callable[[], Mapping[str, ListenerStatus]]) -> None:
        """`listeners`: the listeners of the admin API itself."""
        self._control, self._listeners = control, listeners
        self._taps = 0
        self._pausers: dict[tuple[str, float | None], str] = {}
        """Who paused the connectors that are paused, by connector and time."""

    async def _read_status(self, *, own: bool = False) -> Status:
        """Return the status of this node, as `Control.status` does."""
        status = await self._control.status(own=own)
        return replace(status, listeners=merge_listeners(status.listeners, self._listeners()))

    async def _read_whole_status(self) -> Status:
        """Return the status of all nodes that share the store; that of this node while the database is away."""
        store = self._control.store
        mine = await self._read_status(own=bool(store.shared_partitions))  # else the store would be read twice
        if not store.shared_partitions:
            return await self._name_pausers(mine)
        try:
            whole = await self._read_cluster_status()
        except Unavailable as error:
            return mark_unavailable(mine, str(error), self._control.config.journal.max_size)
        return await self._name_pausers(replace(whole, alerts=mine.alerts, refused_reload=mine.refused_reload))

    async def _name_pausers(self, seen: Status) -> Status:
        """Add who paused the connectors that are paused, as far as the history knows it."""
        paused = {(lane.connector, lane.since) for lane in seen.lanes if lane.state == "paused"}
        self._pausers = {pause: by for pause, by in self._pausers.items() if pause in paused}
        for connector, since in paused - self._pausers.keys():
            query = HistoryQuery(since=since, kind="paused", subject=f"connector {connector}", limit=1)
            with suppress(Unavailable):
                for entry in await ADMIN.run(self._control.store.history.read, query):
                    self._pausers[connector, since] = entry.by
        lanes = [
            replace(lane, paused_by=self._pausers.get((lane.connector, lane.since), ""))
            if lane.state == "paused"
            else lane
            for lane in seen.lanes
        ]
        return replace(seen, lanes=lanes)

    async def _read_cluster_status(self) -> Status:
        """Return the status of all nodes, from the store. Raises Unavailable."""
        config = self._control.config
        return await ADMIN.run(read_cluster_status, self._control.store, config, config.journal.node_name)

    def list_routes(self) -> list[web.RouteDef]:
        """List the routes."""
        return [
            web.get("/status", self.get_status),
            web.get("/lanes", self.get_lanes),
            web.get("/health", self.get_health),
            web.get("/metrics", self.get_metrics),
            web.get("/history", self.get_history),
            web.post("/history", self.note_refusal),
            web.get("/tail", self.tail),
            web.post("/lanes/{connector}/pause", self.pause),
            web.post("/lanes/{connector}/resume", self.resume),
            web.post("/lanes/{connector}/retry", self.retry),
            web.post("/lanes/{connector}/forget", self.forget),
            web.get("/alerts", self.get_alerts),
            web.get("/alerts/now", self.preview_alerts),
            web.post("/alerts/{alert}/test", self.test_alert),
            web.post("/reload", self.reload),
            web.get("/openapi.yaml", self.get_contract),
        ]

    async def get_status(self, _: web.Request) -> web.StreamResponse:
        """Answer with the status."""
        return make_answer(await self._read_whole_status())

    async def get_lanes(self, _: web.Request) -> web.StreamResponse:
        """Answer with the status of the lanes."""
        return make_answer((await self._read_whole_status()).lanes)

    async def get_health(self, _: web.Request) -> web.StreamResponse:
        """Answer with the health in words."""
        return make_answer(diagnose(await self._read_whole_status()))

    async def get_alerts(self, _: web.Request) -> web.StreamResponse:
        """Answer with the status of the alerts."""
        await self._check_announcer()
        return make_answer((await self._read_status(own=True)).alerts)

    async def _check_announcer(self) -> None:
        """Check that this node sends its alerts. Raises OSError that names the node that sends those of all nodes."""
        control = self._control
        if not control.store.shared_partitions or not control.config.alerts or (await control.status(own=True)).alerts:
            return
        processes = await ADMIN.run(control.store.read_processes)
        nodes = [one.node for one in processes if one.state == "running" and 0 in one.partitions]
        ask = f"ask node {nodes[0]}" if nodes else "ask again once a node runs it"
        raise OSError(f"the node that runs partition 0 sends the alerts of all nodes: {ask}")

    async def preview_alerts(self, _: web.Request) -> web.StreamResponse:
        """Answer with the message that each alert would send now."""
        await self._check_announcer()
        return make_answer({name: message.data for name, message in self._control.alerts.preview().items()})

    async def test_alert(self, request: web.Request) -> web.StreamResponse:
        """Send a test of an alert."""
        await self._check_announcer()
        tried = await self._control.alerts.test(request.match_info["alert"])
        return make_answer({"id": tried.id, "sent": tried.sent is not None, "problem": tried.problem})

    async def get_metrics(self, _: web.Request) -> web.StreamResponse:
        """Answer with the metrics for Prometheus."""
        from relay.status import prometheus  # late: memory that only a scrape needs

        control, cluster = self._control, None
        own = await self._read_status(own=bool(control.store.shared_partitions))  # else the store would be read twice
        if own.shares_partitions and own.announces:
            with suppress(Unavailable):  # the metrics of this node say it
                cluster = await self._read_cluster_status()
                own = take_stored(own, cluster, control.config.parked.max_size)
        body = prometheus.render_metrics(own, cluster)
        return web.Response(body=body, headers={"Content-Type": prometheus.CONTENT_TYPE})

    async def get_contract(self, request: web.Request) -> web.StreamResponse:
        """Answer with the OpenAPI document."""
        if request.method == "HEAD":  # relay's own clients ask so before each request, whether relay is alive
            return web.Response(content_type="application/yaml")
        from relay.admin.openapi import render_contract  # late: what only who asks for it needs

        return web.Response(text=await ADMIN.run(render_contract), content_type="application/yaml")

    async def get_history(self, request: web.Request) -> web.StreamResponse:
        """Answer with entries of the history, the last one last."""
        query = convert_content({name: request.query[name] for name in request.query}, HistoryQuery)
        return make_answer(await ADMIN.run(self._control.store.history.read, query))

    async def note_refusal(self, request: web.Request) -> web.StreamResponse:
        """Write into the history that the client refused an action to its user."""
        given = await read_content(request, '{"subject": "connector heap", "refused": "pause"}')
        told = convert_content(given, RefusedAction)
        line = {"subject": told.subject, "refused": told.refused}
        LOG.clean(line)
        self._control.note(make_refused_entry(line["subject"], line["refused"], read_asker(request)))
        return make_answer({"noted": True})

    async def tail(self, request: web.Request) -> web.StreamResponse:
        """Send events as they pass."""
        if self._taps >= TAPS:
            raise OSError(f"{TAPS} taps are open already")
        self._taps += 1
        try:
            entries = [entry.strip() for entry in request.query.getall("events", []) if entry.strip("! ")]
            async with self._control.tap(request.query.get("at", "ingest"), entries) as portions:
                return await send_lines(request, portions)
        finally:
            self._taps -= 1

    async def reload(self, request: web.Request) -> web.StreamResponse:
        """Reload the configuration on disk, or check whether that is possible."""
        dry_run = request.query.get("dry_run") == "true"
        result = await self._control.reload(dry_run=dry_run, by=read_asker(request))
        said = result.lines if dry_run else result.said
        return make_answer({"ok": result.ok, "said": said, "mistakes": result.mistakes, "at": result.at})

    async def reload_as_value(self, request: web.Request) -> web.StreamResponse:
        """Reload, and answer with the result as a value, for the supervisor."""
        return make_answer(
            await self._control.reload(dry_run=request.query.get("dry_run") == "true", by=read_asker(request))
        )

    async def forget(self, request: web.Request) -> web.StreamResponse:
        """Remove everything of an unconfigured connector."""
        kept = await self._control.forget(request.match_info["connector"])
        self._control.note(make_forget_entry(kept, read_asker(request)))
        return make_answer(kept)

    async def pause(self, request: web.Request) -> web.StreamResponse:
        """Pause a connector."""
        connector = request.match_info["connector"]
        given = request.query.get("until")
        until = None if given is None else float(given)
        if until is not None and not (isfinite(until) and until > time.time()):
            raise ValueError(f"until is a time to come, in Unix seconds, not {given}")
        if changed := await self._control.pause(connector, until):
            self._control.note(make_pause_entry(connector, until, read_asker(request)))
        return make_answer({"connector": connector, "paused": True, "changed": changed})

    async def resume(self, request: web.Request) -> web.StreamResponse:
        """Resume a connector; make it try again at once if it waits for its destination."""
        connector = request.match_info["connector"]
        retried = await self._control.try_now(connector)
        changed = await self._control.resume(connector)
        if changed or retried:
            self._control.note(make_resume_entry(connector, read_asker(request), paused=changed))
        return make_answer({"connector": connector, "paused": False, "changed": changed, "retried": retried})

    async def retry(self, request: web.Request) -> web.StreamResponse:
        """Make a connector that waits for its destination try again at once."""
        connector = request.match_info["connector"]
        if retried := await self._control.try_now(connector):
            self._control.note(make_resume_entry(connector, read_asker(request), paused=False))
        return make_answer({"connector": connector, "retried": retried})
