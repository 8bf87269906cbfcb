"""Side doors of the stand-in of Braze: profiles, members of cohorts, audiences, campaigns, the Current."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from aiohttp import web

from relay.sandbox.braze.profiles import Audience, Profile
from relay.sandbox.braze.rest_api import CohortApi
from relay.sandbox.braze.sender import CurrentsSender
from relay.sandbox.doors import get, post
from relay.sandbox.stream import Stream


def make_cohort_doors(api: CohortApi) -> list[web.RouteDef]:
    """Make the doors for profiles, cohorts, segments and counts of requests."""

    def add_profiles(given: Any) -> Any:
        api.profiles.add(
            [
                Profile(
                    user.get("external_id"),
                    frozenset((str(label), str(name)) for label, name in user.get("aliases", {}).items()),
                    frozenset(map(str, user.get("devices", ()))),
                )
                for user in given
            ]
        )
        return {"profiles": len(api.profiles.all)}

    def show_counts(_: Any) -> Any:
        found = api.received
        return {
            "requests": dict(found.statuses),
            "most_ids": max(found.ids, default=0),
            "ignored_ids": found.unknown,
            "conflicts": found.conflicts,
            "names": found.names,
        }

    def show_attributes(query: Any) -> Any:
        return next((values for user, values in api.attributes.items() if user.name == query["user"]), {})

    def show_audience(query: Any) -> Any:
        segment = Audience(tuple(query.getall("includes", [])), tuple(query.getall("excludes", [])))
        return _list_names(api.profiles.find_audience(segment))

    return [
        post("profiles", add_profiles),
        get("members", lambda query: _list_names(api.profiles.find_members(query["cohort"]))),
        get("audience", show_audience),
        get("attributes", show_attributes),
        get("books", show_counts),
    ]


def make_currents_doors(api: CohortApi, sender: CurrentsSender, stream: Stream) -> list[web.RouteDef]:
    """Make the doors of the Current: its state, the buttons of Braze (probe, test events, enable), events, campaign."""

    def show(_: Any) -> Any:
        current = sender.current
        return {
            "stopped": current.stopped,
            "failing_since": current.failing_since,
            "counts": asdict(current.counts),
            "waiting": current.waiting,
            "filling": current.count_filling(),
        }

    async def probe(given: Any) -> Any:
        return {"answers": await sender.probe(given.get("token"))}

    def send_test_events(_: Any) -> Any:
        return {"sent": stream.queue_test_events()}

    def send(given: Any) -> Any:
        stream.queue_events(given["type"], int(given.get("count", 1)), given.get("odd"), given)
        return show(None)

    def send_campaign(given: Any) -> Any:
        segment = Audience(tuple(given.get("includes", ())), tuple(given.get("excludes", ())))
        users = [profile.external_id for profile in api.profiles.find_audience(segment) if profile.external_id]
        return {"sent": stream.queue_campaign(given["type"], users, str(given.get("name", "Campaign")))}

    def flush(_: Any) -> Any:
        sender.flush()
        return show(None)

    def enable(_: Any) -> Any:
        sender.enable()
        return show(None)

    return [
        get("currents", show),
        post("probe", probe),
        post("test_events", send_test_events),
        post("send", send),
        post("campaign", send_campaign),
        post("flush", flush),
        post("enable", enable),
    ]


def _list_names(profiles: Iterable[Profile]) -> list[str]:
    return sorted(profile.name for profile in profiles)
