"""The side doors of Braze's stand-in: profiles, members of cohorts, audiences and campaigns, the Current."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from aiohttp import web

from relay.sandbox.braze.profiles import Audience, Profile
from relay.sandbox.braze.rest_api import CohortApi
from relay.sandbox.braze.sender import CurrentsSender
from relay.sandbox.doors import get, post
from relay.sandbox.stream import Stream


def cohort_doors(api: CohortApi) -> list[web.RouteDef]:
    """Who there is, who is in a cohort or a segment, what came in."""

    def add_profiles(given: Any) -> Any:
        api.profiles.add([_profile(one) for one in given])
        return {"profiles": len(api.profiles.all)}

    def books(_: Any) -> Any:
        found = api.books
        return {
            "requests": dict(found.statuses),
            "most_ids": max(found.ids, default=0),
            "ignored_ids": found.unknown,
            "conflicts": found.conflicts,
            "names": found.names,
        }

    def attributes(query: Any) -> Any:
        return next((values for user, values in api.attributes.items() if user.name == query["user"]), {})

    return [
        post("profiles", add_profiles),
        get("members", lambda query: _names(api.profiles.inside(query["cohort"]))),
        get(
            "audience",
            lambda query: _names(
                api.profiles.audience(
                    Audience(tuple(query.getall("includes", [])), tuple(query.getall("excludes", [])))
                )
            ),
        ),
        get("attributes", attributes),
        get("books", books),
    ]


def currents_doors(api: CohortApi, sender: CurrentsSender, stream: Stream) -> list[web.RouteDef]:
    """How the Current does, and what Braze's buttons do: probe, test events, switch on again; events and campaigns."""

    def look(_: Any) -> Any:
        current = sender.current
        return {
            "stopped": current.stopped,
            "failing_since": current.failing_since,
            "counts": asdict(current.counts),
            "waiting": current.waiting,
            "filling": current.queues(),
        }

    async def probe(given: Any) -> Any:
        return {"answers": await sender.probe(given.get("token"))}

    def send_test_events(_: Any) -> Any:
        return {"sent": stream.test_events()}

    def send(given: Any) -> Any:
        stream.send(given["type"], int(given.get("count", 1)), given.get("odd"), given)
        return look(None)

    def campaign(given: Any) -> Any:
        audience = api.profiles.audience(Audience(tuple(given.get("includes", ())), tuple(given.get("excludes", ()))))
        users = [one.external_id for one in audience if one.external_id]
        return {"sent": stream.campaign(given["type"], users, str(given.get("name", "Campaign")))}

    def flush(_: Any) -> Any:
        sender.flush()
        return look(None)

    def enable(_: Any) -> Any:
        sender.enable()
        return look(None)

    return [
        get("currents", look),
        post("probe", probe),
        post("test_events", send_test_events),
        post("send", send),
        post("campaign", campaign),
        post("flush", flush),
        post("enable", enable),
    ]


def _profile(given: Any) -> Profile:
    aliases = frozenset((str(label), str(name)) for label, name in given.get("aliases", {}).items())
    return Profile(given.get("external_id"), aliases, frozenset(map(str, given.get("devices", ()))))


def _names(profiles: Iterable[Profile]) -> list[str]:
    return sorted(one.name for one in profiles)
