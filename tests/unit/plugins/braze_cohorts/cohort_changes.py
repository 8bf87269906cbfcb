"""Changes of cohorts, and the connector that tells a stand-in of Braze of them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import orjson

from relay.api import Batch, Block, Event, KeyValueStore, Kind, Outcome
from relay.sandbox.braze.rest_api import CohortApi
from relay.state import EmbeddedStores, StoreFile
from relay.testing import Destination
from relay_plugins.braze_cohorts.change import Member
from relay_plugins.braze_cohorts.connector import BrazeCohorts
from relay_plugins.braze_cohorts.queries import Cohort, read_cohorts, read_members

OFFSETS = count()


def change(
    add: Sequence[str] = (), remove: Sequence[str] = (), cohort: str = "7", name: str = "Carts", **more: Any
) -> Event:
    sync = {"task": "t", "page": 1, "pages": 1, "part": 0, "parts": 1, "full": False} | more.pop("sync", {})
    data = {"event_type": "cohort.Change", "id": "x", "cohort": {"id": cohort, "name": name}, "match": "external_id"}
    body = orjson.dumps(data | {"add": add, "remove": remove, "sync": sync} | more)
    return Event(body, Kind("heap", "cohort.Change"), next(OFFSETS), 0.0)


@asynccontextmanager
async def connected(
    api: CohortApi | Destination, folder: Path, store: KeyValueStore | None = None, **more: Any
) -> AsyncIterator[BrazeCohorts]:
    (folder / "key").write_text("partner")
    (folder / "import").write_text("import")
    (folder / "rest").write_text("rest")
    keys = {
        "partner": "heap",
        "partner_key": {"file": f"{folder}/key"},
        "data_import_key": {"file": f"{folder}/import"},
    }
    if more.get("mode") == "attribute":
        keys = {"rest_key": {"file": f"{folder}/rest"}}
    table = {"type": "braze_cohorts", "endpoint": api.url} | keys | more
    connector = BrazeCohorts("braze", BrazeCohorts.Settings.model_validate(table), folder=folder)
    connector.store = store or StoreFile(folder, "braze_cohorts", "braze")
    await connector.open()
    try:
        yield connector
    finally:
        await connector.release()


async def told(connector: BrazeCohorts, *events: Event) -> list[Outcome]:
    return [(await connector.deliver(Batch([Block.of([event])])))[0] for event in events]


def known_cohorts(folder: Path) -> list[Cohort]:
    with EmbeddedStores(folder).read("braze_cohorts", "braze") as store:
        return read_cohorts(store)


def known_members(folder: Path, cohort: str) -> list[Member]:
    with EmbeddedStores(folder).read("braze_cohorts", "braze") as store:
        return read_members(store, cohort)


def inside(api: CohortApi, cohort: str = "7") -> set[str | None]:
    return {profile.external_id for profile in api.members[cohort]}
