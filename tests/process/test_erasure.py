"""A user is erased at a real daemon: no byte is left of them in the state folder, the books balance, the receipt is
right."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from relay.api import User
from relay.cli.main import relay as cli
from relay.sandbox.braze.profiles import Profile
from relay.sandbox.braze.rest_api import CohortApi
from relay.sandbox.heap.track import HeapApi
from relay.state.erasure.table import FolderErasures
from relay.store import Counts, Erasure, make_digest
from relay.testing import Answer, Destination, make_event
from tests.daemon import Daemon

USER, EXTERNAL, AWKWARD = "5f3a9c0d11e2b4a6c7d8e9f0", "anna-4711", 'Änn"a\\7/ü'
OTHER = {"user_id": "0" * 24, "external_user_id": "bert"}
SECRET = "nobody-may-see-this"


def of_user(type: str = "users.messages.email.Open", **properties: Any) -> bytes:
    return make_event(type, user={"user_id": USER, "external_user_id": EXTERNAL}, **properties)


def of_other(**properties: Any) -> bytes:
    return make_event(user=OTHER, **properties)


def body_of(*events: bytes) -> bytes:
    return b'{"events":[%s]}' % b",".join(events)


def page_of(*users: str) -> bytes:
    data = {
        "segment": {"id": 42, "name": "Lost carts"},
        "sync_info": {"page_number": 1, "total_pages": 1, "sync_task_id": "t"},
        "add": [{"id": user} for user in users],
        "remove": [],
    }
    return orjson.dumps({"action_type": "segment.users.sync", "data": data})


def left(state: Path) -> list[str]:
    """The files that hold any of the user's ids, in any form that the senders here use."""
    ids = (USER, EXTERNAL, AWKWARD)
    forms = [form for one in ids for form in (one.encode(), json.dumps(one)[1:-1].encode(), orjson.dumps(one)[1:-1])]
    files = [path for path in state.rglob("*") if path.is_file()]
    return [path.name for path in files if any(form in path.read_bytes() for form in forms)]


def relay(*arguments: Any) -> tuple[int, str]:
    result = CliRunner().invoke(cli, [*map(str, arguments)])
    return result.exit_code, result.output


async def until(daemon: Daemon, good: Callable[[Erasure], bool]) -> Erasure:
    (found,) = await daemon.until(
        lambda: FolderErasures(daemon.state).read(), lambda found: len(found) == 1 and good(found[0])
    )
    one: Erasure = found
    return one


def configure(
    daemon: Daemon, folder: Path, dead: Destination, picky: Destination, heap: HeapApi, braze: CohortApi
) -> None:
    (folder / "secret").write_text(SECRET)
    secret, quick = f'{{file="{folder}/secret"}}', 'retry={first="10ms",max="50ms"}'
    events = 'events=["*","!cohort.*"]'
    daemon.configure("01-erasure", '[erasure]\non=["users.UserDeleteRequest"]\nafter="300ms"')
    daemon.configure("10-braze", '[source.braze]\ntype="currents"\npath="/currents"')
    daemon.configure("11-segments", '[source.segments]\ntype="heap_segments"\npath="/segments"')
    daemon.configure("20-dead", f'[connector.dead]\ntype="http"\nurl="{dead.url}"\n{events}\n{quick}')
    daemon.configure("21-picky", f'[connector.picky]\ntype="http"\nurl="{picky.url}"\n{events}\nbody="single"')
    heap_ = f'[connector.heap]\ntype="heap"\nmode="api"\napp_id="1"\nendpoint="{heap.url}"\napi_key={secret}\n'
    daemon.configure("22-heap", heap_ + f'events=["message_engagement"]\n{quick}')
    cohorts = f'[connector.cohorts]\ntype="braze_cohorts"\nendpoint="{braze.url}"\npartner="heap"\n'
    daemon.configure("23-cohorts", cohorts + f"partner_key={secret}\ndata_import_key={secret}")


@pytest.mark.slow
async def test_a_delete_request_leaves_no_byte_of_the_user_and_a_receipt(daemon: Daemon, tmp_path: Path) -> None:
    said = f"no such user {EXTERNAL}, or {USER}".encode()
    users = [Profile("bert"), Profile(EXTERNAL)]
    async with (
        Destination() as dead,
        Destination() as picky,
        HeapApi(api_key=SECRET) as heap,
        CohortApi(users, partner_key=SECRET, data_import_key=SECRET) as braze,
    ):
        dead.behaviour, picky.behaviour = Answer(status=503, body=said), Answer(status=400, body=said)
        heap.switches = heap.switches.replace(pending=1_000_000)
        configure(daemon, tmp_path, dead, picky, heap, braze)
        await leave_the_user_everywhere(daemon)
        dead.behaviour, picky.behaviour = 503, 400  # what they say from now on does not name the user
        logged = len(daemon.stderr)
        await erase_all_but_what_heap_needs(daemon)
        heap.switches = heap.switches.replace(pending=1)
        await daemon.start()
        await erase_the_rest(daemon)
        assert {*heap.deletions.deleted} == {EXTERNAL, AWKWARD}
        assert {event["identity"] for event in heap.events.values()} == {"bert"}
        await assert_other_users_are_served(daemon, dead)
        assert_checks_find_nothing(daemon)
        assert_receipt_knows_digests_alone(daemon)
        assert await daemon.stop() == 0
    assert not any(one in line for line in daemon.stderr[logged:] for one in (USER, EXTERNAL))


async def leave_the_user_everywhere(daemon: Daemon) -> None:
    """Have the user in two segments, in a cohort, among the parked events, and in what destinations answered."""
    await daemon.start()
    assert (await daemon.post(page_of("bert", EXTERNAL), "/segments"))[0] == 200
    await daemon.post(body_of(of_user(), of_other(), make_event(user={"external_user_id": EXTERNAL})))
    await daemon.settled("cohorts", 4)
    await daemon.kill()
    await daemon.start()
    await daemon.post(body_of(of_other(), of_user(text="é"), make_event(user={"user_id": USER})))
    awkward = json.dumps({"user_id": USER, "external_user_id": AWKWARD})
    await daemon.post(b'{"event_type":"own","id":"1","user":%s}' % awkward.replace("/", "\\/").encode())
    assert (await daemon.post(body_of(b'{"broken": "%s"}' % USER.encode(), of_other())))[1]["parked"] == 1
    await daemon.until(daemon.parked, lambda found: len(found) == 10)
    assert sorted(left(daemon.state)) != []


async def erase_all_but_what_heap_needs(daemon: Daemon) -> None:
    """Request the erasure, and kill relay while Heap has not yet confirmed."""
    await daemon.post(body_of(make_event("users.UserDeleteRequest", user={"user_id": USER})))
    one = await until(daemon, lambda one: len(one.answers) == 3)
    await daemon.kill()
    assert (one.type, one.source, one.events, one.changed) == ("users.UserDeleteRequest", "braze", 6, 1)
    assert {*left(daemon.state)} <= {"relay.db", "relay.db-wal"}, "only whom Heap has to delete"


async def erase_the_rest(daemon: Daemon) -> None:
    one = await until(daemon, lambda one: bool(one.done))
    assert {each.connector: each.outcome for each in one.answers} == {
        "cohorts": "done",
        "dead": "skipped",
        "heap": "done",
        "picky": "skipped",
    }
    assert (one.parked, one.unreadable, one.user.user_id, one.user.external_ids) == (7, 1, None, ())
    assert one.attempts > 0
    assert left(daemon.state) == []


async def assert_other_users_are_served(daemon: Daemon, dead: Destination) -> None:
    """Only events of the other user are delivered, and parked answers no longer name the user."""
    await daemon.post(body_of(of_other()))
    await daemon.settled("picky", 11)
    dead.behaviour = 200
    ledger = await daemon.settled("dead", 11)
    assert ledger.counts == Counts(delivered=4, unselected=1, erased=6)
    assert daemon.ledger()["picky"].counts == Counts(parked=4, unselected=1, erased=6)
    assert all(event["user"] == OTHER for event in dead.events())
    assert [one.answer for one in daemon.parked()] == ["no such user ..., or ..."] * 3 + ["{}"]


def assert_checks_find_nothing(daemon: Daemon) -> None:
    for arguments in (("audit",), ("journal", "check"), ("erasures", "check", "--user-id", USER)):
        assert (relay(*arguments, "--state", daemon.state, "--conf", daemon.conf))[0] == 0


def assert_receipt_knows_digests_alone(daemon: Daemon) -> None:
    code, out = relay("erasures", "show", 1, "--json", "--state", daemon.state)
    shown = json.loads(out)
    assert (code, shown["status"]) == (0, "done")
    assert {*shown["digests"]} == {make_digest(USER), make_digest(EXTERNAL), make_digest(AWKWARD)}


async def asked(daemon: Daemon, *arguments: Any) -> str:
    """What a command says, for which the relay may need what runs here."""
    code, out = await asyncio.to_thread(relay, *arguments, "--state", daemon.state)
    assert code == 0, out
    return out


def of(daemon: Daemon, number: int) -> Erasure:
    return next(one for one in FolderErasures(daemon.state).read() if one.number == number)


def configure_heap(daemon: Daemon, heap: HeapApi, key: Path) -> None:
    text = f'[connector.heap]\ntype="heap"\nmode="api"\napp_id="1"\nendpoint="{heap.url}"\napi_key={{file="{key}"}}\n'
    daemon.configure("22-heap", text + 'retry={first="10ms",max="50ms"}')


async def failed_at_heap(daemon: Daemon, heap: HeapApi, folder: Path, workers: int) -> None:
    """A user is not erased at Heap, which does not take the key, and then Heap is taken out of the configuration."""
    (folder / "wrong").write_text("wrong")
    (folder / "secret").write_text(SECRET)
    daemon.configure("01-erasure", f'[erasure]\nafter="0s"\n[runtime]\nworkers={workers}')
    daemon.configure("10-braze", '[source.braze]\ntype="currents"\npath="/currents"')
    configure_heap(daemon, heap, folder / "wrong")
    await daemon.start()
    await daemon.post(body_of(of_user()))
    await asked(daemon, "erasures", "request", "--user-id", USER, "--external-id", EXTERNAL)
    one = await until(daemon, lambda one: bool(one.answers))
    assert "heap: failed (HTTP 401" in await asked(daemon, "erasures", "show", one.number)
    code, screen = await asyncio.to_thread(relay, "status", "--state", daemon.state)
    assert (code, "heap: 1 erasure fails there since" in screen) == (0, True), screen
    (daemon.conf / "22-heap.toml").unlink()
    said = await asked(daemon, "reload")
    assert "connector heap: removed; 1 erasure that failed there waits until heap is added back" in said
    assert "relay forget heap" in said
    code, screen = await asyncio.to_thread(relay, "status", "--state", daemon.state)
    assert (code, "heap: 1 erasure failed there: HTTP 401" in screen) == (1, True), screen
    await others_are_done(daemon)


async def others_are_done(daemon: Daemon) -> None:
    """Another user is erased meanwhile; the first one is still to be."""
    number = int((await asked(daemon, "erasures", "request", "--user-id", OTHER["user_id"])).split()[1])
    await daemon.until(lambda: of(daemon, number).done, bool)
    assert (of(daemon, 1).status, of(daemon, 1).user) == ("at the connectors", User(USER, (EXTERNAL,)))


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
async def test_erasures_that_failed_at_a_removed_connector_wait_for_its_return(
    daemon: Daemon, tmp_path: Path, workers: int
) -> None:
    async with HeapApi(api_key=SECRET) as heap:
        await failed_at_heap(daemon, heap, tmp_path, workers)
        assert await daemon.stop() == 0
        await daemon.start()
        *_, told = await daemon.until(lambda: daemon.logged("connector is gone but has users to erase"), bool)
        assert (told["connector"], told["erasures"], "relay forget" in told["advice"]) == ("heap", 1, True)
        await others_are_done(daemon)
        configure_heap(daemon, heap, tmp_path / "secret")
        await asked(daemon, "reload")
        await daemon.until(lambda: of(daemon, 1).done, bool)
        assert {*heap.deletions.deleted} == {EXTERNAL}
        assert [(one.connector, one.outcome) for one in of(daemon, 1).answers] == [("heap", "done")]
        assert await daemon.stop() == 0


@pytest.mark.parametrize("runs", [True, pytest.param(False, marks=pytest.mark.long)])
async def test_forgetting_the_connector_gives_up_what_failed_there(daemon: Daemon, tmp_path: Path, runs: bool) -> None:
    async with HeapApi(api_key=SECRET) as heap:
        await failed_at_heap(daemon, heap, tmp_path, 1)
        if not runs:
            assert await daemon.stop() == 0
        said = await asked(daemon, "forget", "heap", "--yes", "--conf", daemon.conf)
        assert "1 erasure that failed there" in said
        if not runs:
            await daemon.start()
        await daemon.until(lambda: of(daemon, 1).done, bool)
        assert of(daemon, 1).user == User()
        shown = await asked(daemon, "erasures", "show", 1)
        assert "connector  heap: forgotten (HTTP 401" in shown
        assert "tried again" not in shown
        assert await daemon.stop() == 0
    assert left(daemon.state) == []
