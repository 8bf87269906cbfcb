"""Cohorts through a real daemon: from Heap's webhook and from files, over a kill, to a stand-in of Braze."""

import asyncio
from pathlib import Path
from signal import SIGHUP
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson
import pytest
from click.testing import CliRunner

from relay.cli.main import relay
from relay.sandbox.braze.rest_api import CohortApi, Fault, Profile
from relay.sandbox.heap.segments import SegmentSync, StandInSegment
from tests.conftest import LONG
from tests.daemon import Daemon

SECRET = "nobody-may-see-this"
MANY, DELAY_S, WINDOW = (100_000, 0.002, 40) if LONG else (12_000, 0.02, 8)
REQUESTS = MANY * 7 // 4 // 1000
"""In which all are added, every second one is removed, and every fourth one added again."""


def configure(daemon: Daemon, folder: Path, url: str, more: str = "") -> None:
    for name, text in (("partner", SECRET), ("import", SECRET + "-2")):
        (folder / name).write_text(text)
    daemon.configure("10-segments", '[source.heap]\ntype="heap_segments"\npath="/segments"')
    daemon.configure("11-push", '[source.push]\ntype="json"\npath="/cohorts"')
    daemon.configure(
        "20-braze",
        f'[connector.braze]\ntype="braze_cohorts"\nendpoint="{url}"\npartner="heap"\n'
        f'partner_key={{file="{folder}/partner"}}\ndata_import_key={{file="{folder}/import"}}\n{more}',
    )


def api_of(users: range, **more: Any) -> CohortApi:
    profiles = [Profile(f"user-{number}") for number in users]
    return CohortApi(profiles, partner_key=SECRET, data_import_key=SECRET + "-2", **more)


def page_of(task: str, add: range, remove: range = range(0), segment: int = 42) -> bytes:
    data = {
        "segment": {"id": segment, "name": "Lost carts"},
        "sync_info": {"page_number": 1, "total_pages": 1, "sync_task_id": task},
        "add": [{"id": f"user-{number}"} for number in add],
        "remove": [{"id": f"user-{number}"} for number in remove],
    }
    return orjson.dumps({"action_type": "segment.users.sync", "data": data})


def inside(api: CohortApi, cohort: str) -> set[str | None]:
    return {profile.external_id for profile in api.members[cohort]}


async def start(daemon: Daemon) -> None:
    """Start relay, and wait until its connector has made the database that commands read."""
    await daemon.start()
    command = ["cohorts", "list", "--state", str(daemon.state)]
    await daemon.until(lambda: CliRunner().invoke(relay, command).exit_code, lambda code: code == 0)


async def cohorts(*arguments: Any, stdin: bytes = b"") -> tuple[int, str, str]:
    words = ["cohorts", *map(str, arguments)]
    result = await asyncio.to_thread(CliRunner().invoke, relay, words, stdin, {"RELAY_TOKEN": ""})
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.slow
@pytest.mark.long  # quicker: tests/unit/plugins/braze_cohorts
async def test_very_many_members_over_kills_and_faults(daemon: Daemon, tmp_path: Path) -> None:
    async with api_of(range(MANY), delay=DELAY_S) as api:
        quick = 'retry={first="10ms",max="50ms"}\nbatch={events=5}'
        configure(daemon, tmp_path, api.url, f"{quick}\nwindow={WINDOW}")
        await daemon.start()
        syncs = [(range(MANY), range(0)), (range(0), range(0, MANY, 2)), (range(0, MANY, 4), range(0))]
        for number, (add, remove) in enumerate(syncs):
            assert (await daemon.post(page_of(f"sync-{number}", add, remove), "/segments"))[0] == 200
        for done in (REQUESTS // 9, REQUESTS * 4 // 7, REQUESTS * 6 // 7):
            await daemon.until(lambda: len(api.received.ids), lambda requests, least=done: requests > least)
            await daemon.kill()
            api.faults.extend([Fault(503), Fault(423), Fault(500, applied=True)])
            await daemon.start()
        assert daemon.ledger()["braze"].pending > 0, "it was killed in the middle"
        await daemon.settled("braze", REQUESTS)
        assert inside(api, "42") == {f"user-{number}" for number in range(MANY) if number % 2 or number % 4 == 0}
        assert max(api.received.ids) == 1000
        assert api.received.conflicts == 0, "order per cohort"
        assert len(api.received.ids) <= REQUESTS + 3 * WINDOW + 3, (
            "at most the window again after a kill, and what had no answer"
        )
        assert await daemon.stop() == 0
        texts = [path.read_bytes() for path in daemon.state.rglob("*") if path.is_file()]
        assert not any(SECRET.encode() in text for text in [*texts, "\n".join(daemon.stderr).encode()])


async def test_the_requests_of_an_hour_are_never_more_than_braze_takes(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.sandbox.braze.rest_api.HOUR_S", 1)  # so long is an hour there
    async with api_of(range(10), hourly=8) as api:
        configure(daemon, tmp_path, api.url, "concurrency=1")
        await daemon.start()
        for cohort in range(10):
            assert (await daemon.post(page_of("one", range(10), segment=cohort), "/segments"))[0] == 200
        await daemon.settled("braze", 10)
        assert api.received.statuses == {201: 20}, "a name and members for each; none was beyond the limit"
        assert await daemon.stop() == 0


async def test_a_page_that_comes_again_after_a_newer_one_changes_nothing(daemon: Daemon, tmp_path: Path) -> None:
    async with api_of(range(10)) as api:
        configure(daemon, tmp_path, api.url)
        await daemon.start()
        came, went = page_of("monday", range(10)), page_of("tuesday", range(0), range(5))
        for page, duplicates in ((came, 0), (went, 0), (came, 1)):
            assert (await daemon.post(page, "/segments"))[1]["duplicates"] == duplicates
        await daemon.settled("braze", 2)
        assert inside(api, "42") == {f"user-{number}" for number in range(5, 10)}
        assert await daemon.stop() == 0


@pytest.mark.parametrize(
    ("ways", "expected"),
    [
        pytest.param({}, 50, marks=pytest.mark.long),
        pytest.param({"repeat_pages": True}, 50, marks=pytest.mark.long),
        ({"shuffle_pages": True, "repeat_pages": True}, 50),
        ({"lose_last_page": True}, 40),
    ],
)
async def test_however_pages_come_who_is_told_of_is_in_it(
    daemon: Daemon, tmp_path: Path, ways: dict[str, bool], expected: int
) -> None:
    segment = StandInSegment(42, "Lost carts", "in", "out")
    async with api_of(range(50)) as api:
        configure(daemon, tmp_path, api.url)
        await daemon.start()
        async with SegmentSync(daemon.url + "/segments", "unsigned", page=10, **ways) as sync:
            assert await sync.sync(segment, {f"user-{number}" for number in range(50)}) == (50, 0)
            await daemon.settled("braze", expected // 10)
            assert len(inside(api, "42")) == expected
            assert sum(api.received.ids) == expected, "a repeated page changes nothing"
        assert await daemon.stop() == 0


async def test_files_are_pushed_compared_and_sent_again(daemon: Daemon, tmp_path: Path) -> None:
    async with api_of(range(3000)) as api:
        configure(daemon, tmp_path, api.url)
        await start(daemon)
        state, url = ("--state", daemon.state), ("--url", daemon.url + "/cohorts")
        file = tmp_path / "users.ndjson"
        file.write_text("".join(f'{{"external_id": "user-{number}"}}\n' for number in range(1000, 3000)))
        await push_first_members(daemon, api)
        await assert_diff_shows_what_a_push_would_change(daemon, file)
        await push_changes_alone(daemon, api, file)
        await assert_commands_show_the_cohort(daemon)
        assert (await cohorts("resync", "vip", *options_of(daemon)))[0] == 0
        await daemon.settled("braze", 6)
        assert sum(api.received.ids) == 4000 + 2000
        await assert_large_removals_are_asked_for(daemon, api)
        await assert_empty_needs_a_known_cohort(daemon, api)
        for wrong in (("show", "none", *state), ("push", "-", "--cohort", "vip", *url), ("list", "--state", tmp_path)):
            assert (await cohorts(*wrong))[0] == 1
        assert await daemon.stop() == 0


def options_of(daemon: Daemon) -> tuple[object, ...]:
    """Return the options by which a command finds the state folder and the source of pushed members."""
    return "--state", daemon.state, "--url", daemon.url + "/cohorts"


async def push_first_members(daemon: Daemon, api: CohortApi) -> None:
    first = "external_id,city\n" + "".join(f"user-{number},Graz\n" for number in range(2500))
    named = ("--cohort", "vip", "--name", "VIPs", *options_of(daemon))
    code, out, err = await cohorts("push", "-", *named, stdin=first.encode())
    assert (code, out, err) == (0, "vip: 2,500 users, +2,500 -0 of 0 members\n", "")
    await daemon.settled("braze", 3)
    assert len(inside(api, "vip")) == 2500


async def assert_diff_shows_what_a_push_would_change(daemon: Daemon, file: Path) -> None:
    state = ("--state", daemon.state)
    _, out, _ = await cohorts("diff", "vip", file, "--json", *state)
    assert {key: len(users) for key, users in orjson.loads(out).items()} == {"add": 500, "remove": 1000}
    assert (await cohorts("diff", "vip", file, "--summary", *state))[1] == "+500 -1,000 of 2,500 members\n"
    assert (await cohorts("diff", "vip", file, *state))[1].splitlines()[:2] == [
        "+500 -1,000 of 2,500 members",
        "+ external_id:user-2500",
    ]


async def push_changes_alone(daemon: Daemon, api: CohortApi, file: Path) -> None:
    code, out, _ = await cohorts("push", file, "--cohort", "vip", *options_of(daemon))
    assert (code, out) == (0, "vip: 2,000 users, +500 -1,000 of 2,500 members\n")
    await daemon.settled("braze", 5)
    assert inside(api, "vip") == {f"user-{number}" for number in range(1000, 3000)}
    assert sum(api.received.ids) == 2500 + 500 + 1000
    assert api.received.names["vip"] == ["VIPs"]


async def assert_commands_show_the_cohort(daemon: Daemon) -> None:
    state = ("--state", daemon.state)
    (known,) = orjson.loads((await cohorts("list", "--json", *state))[1])
    assert (known["id"], known["name"], known["members"]) == ("vip", "VIPs", 2000)
    head, row = (await cohorts("list", *state))[1].splitlines()
    assert head.split() == ["cohort", "members", "last", "change", "name"]
    assert (row.split()[:2], row.split()[-1]) == (["vip", "2,000"], "VIPs")
    shown = dict(line.split(maxsplit=1) for line in (await cohorts("show", "vip", *state))[1].splitlines()[:5])
    assert (shown["name"], shown["members"]) == ("VIPs", "2000")
    assert shown["synced"].endswith("Z")
    assert len((await cohorts("members", "vip", *state))[1].splitlines()) == 2000
    at = "/lanes/braze/tables"
    tables = await ask(daemon, at)
    assert [(table["name"], table["where"]) for table in tables] == [
        ("cohorts", ["cohort"]), ("members", ["cohort", "user"])
    ]  # fmt: skip
    page = await ask(daemon, f"{at}/cohorts")
    assert (page["rows"][0][:3], page["after"]) == (["vip", "VIPs", 2000], None)
    first = await ask(daemon, f"{at}/members?where=cohort%3Dvip&limit=1000")
    second = await ask(daemon, f"{at}/members?where=cohort%3Dvip&limit=1000&after={quote(first['after'])}")
    assert (len({*map(str, first["rows"] + second["rows"])}), second["after"]) == (2000, None)
    assert (await ask(daemon, f"{at}/members?where=user%3Dexternal_id:user-1500"))["rows"] == [
        ["vip", "external_id:user-1500"]
    ]
    assert (await ask(daemon, f"{at}/cohorts?worker=1"))["rows"] == [], "it has no store"
    assert (await ask(daemon, f"{at}/members"))["detail"].startswith("say which")
    assert "known: cohort=VALUE" in (await ask(daemon, f"{at}/cohorts?where=name%3Dx"))["detail"]
    assert (await ask(daemon, f"{at}/users"))["detail"] == "there is no table users; tables: cohorts, members"


async def ask(daemon: Daemon, path: str) -> Any:
    """Return what the admin API answers."""
    connector = aiohttp.UnixConnector(str(daemon.state / "admin.sock"))
    async with aiohttp.ClientSession(connector=connector) as session, session.get(f"http://relay{path}") as answer:
        return await answer.json(content_type=None)


async def assert_large_removals_are_asked_for(daemon: Daemon, api: CohortApi) -> None:
    """Push a file without half of the members: it takes --yes."""
    half = b"external_id;name\n" + b"".join(b"user-%d;A\n" % number for number in range(1000, 1999))
    push = ("push", "-", "--cohort", "vip", *options_of(daemon))
    code, _, err = await cohorts(*push, stdin=half)
    assert code == 1, "it asked, and nobody answered"
    assert "nobody answers; --yes does it without asking" in err
    assert "+0 -1,001 of 2,000 members" in err
    assert (await cohorts(*push, "--yes", stdin=half))[0] == 0
    await daemon.settled("braze", 7)
    assert inside(api, "vip") == {f"user-{number}" for number in range(1000, 1999)}


async def assert_empty_needs_a_known_cohort(daemon: Daemon, api: CohortApi) -> None:
    """Empty a cohort: it takes its name and --yes."""
    where = options_of(daemon)
    assert (await cohorts("empty", "vip", *where))[0] == 1
    for typo in ("vpi", ""):
        code, _, err = await cohorts("empty", typo, "--yes", *where)
        assert (code, err) == (1, f"Error: relay knows no cohort {typo}; relay cohorts list has them all\n")
    assert (await cohorts("empty", "vip", "--yes", *where))[:2] == (0, "vip: everybody leaves\n")
    await daemon.settled("braze", 8)
    assert inside(api, "vip") == set()


async def test_a_folder_is_watched(daemon: Daemon, tmp_path: Path) -> None:
    folder = tmp_path / "memberships"
    folder.mkdir()
    async with api_of(range(10)) as api:
        configure(daemon, tmp_path, api.url)
        await start(daemon)
        (folder / "vip.csv").write_text("user-1\nuser-2\n")
        (folder / "new.NDJSON").write_text('"user-3"\n')
        (folder / "empty.csv").write_text("external_id\n")
        (folder / "half.csv.part").write_text("user-4")
        nowhere = ("watch", folder, "--once", "--url", daemon.url + "/nowhere")
        code, _, err = await cohorts(*nowhere, "--state", tmp_path)
        assert code == 1
        assert f"{tmp_path} has no database of a connector of type braze_cohorts" in err
        assert (await cohorts(*nowhere, "--state", daemon.state))[0] == 1
        assert (folder / "vip.csv").exists(), "that was not its fault"
        (folder / "empty.csv.failed").rename(folder / "empty.csv")
        watching = ("watch", folder, "--once", "--url", daemon.url + "/cohorts", "--state", daemon.state)
        code, out, err = await cohorts(*watching)
        assert code == 1
        assert f"{folder}/vip.csv: 2 users, +2 -0 of 0 members\n" in out
        assert "accepted" not in out
        assert "empty.csv: " in err
        assert "names no user" in err
        names = sorted(path.name for path in folder.iterdir())
        assert names == ["empty.csv.failed", "half.csv.part", "new.NDJSON.done", "vip.csv.done"]
        await daemon.settled("braze", 2)
        assert (inside(api, "vip"), inside(api, "new")) == ({"user-1", "user-2"}, {"user-3"})
        (folder / "vip.csv").write_text("user-7\n")
        code, _, err = await cohorts(*watching)
        assert (code, (folder / "vip.csv.failed").exists()) == (1, True)
        assert "+1 -2 of 2 members: more than half would leave" in err
        (folder / "vip.csv.failed").rename(folder / "vip.csv")
        assert (await cohorts(*watching, "--yes"))[0] == 0
        await daemon.settled("braze", 3)
        assert inside(api, "vip") == {"user-7"}
        assert await daemon.stop() == 0


async def test_another_braze_has_every_cohort_after_a_resync_of_all(daemon: Daemon, tmp_path: Path) -> None:
    async with api_of(range(10)) as old, api_of(range(10), unknown_cohort="refuse") as new:
        configure(daemon, tmp_path, old.url)
        await daemon.start()
        there = ("--url", daemon.url + "/cohorts", "--state", daemon.state)
        assert (await cohorts("resync", "--all", *there))[0] == 1, "there is none"
        for segment in (42, 43):
            await daemon.post(page_of("one", range(10), segment=segment), "/segments")
        await daemon.settled("braze", 2)
        assert await daemon.stop() == 0
        configure(daemon, tmp_path, new.url)
        await daemon.start()
        moved = "cohorts were sent to another Braze"
        await daemon.until(lambda: daemon.stderr, lambda lines: any(moved in line for line in lines))
        there = ("--url", daemon.url + "/cohorts", "--state", daemon.state)
        assert (await cohorts("resync", *there))[0] == 2
        assert (await cohorts("resync", "42", "--all", *there))[0] == 2
        code, out, _ = await cohorts("resync", "--all", *there)
        assert (code, len(out.splitlines())) == (0, 2)
        await daemon.settled("braze", 4)
        assert inside(new, "42") == inside(new, "43") == {f"user-{number}" for number in range(10)}
        assert new.received.ids == [10, 10]

        old.members.clear()
        configure(daemon, tmp_path, old.url)
        daemon.signal(SIGHUP)
        await daemon.until(lambda: daemon.logged("configuration reloaded"), bool)
        await daemon.post(page_of("two", range(0), range(3)), "/segments")
        await daemon.settled("braze", 5)
        assert inside(old, "42") == {f"user-{number}" for number in range(3, 10)}, "the whole, and then the change"
        assert inside(old, "43") == set(), "it has not changed"
        assert await daemon.stop() == 0


async def test_a_push_without_exactly_one_cohort_to_compare_is_refused(daemon: Daemon, tmp_path: Path) -> None:
    async with api_of(range(10)) as api:
        configure(daemon, tmp_path, api.url)
        await daemon.start()
        push = ("push", "-", "--url", daemon.url + "/cohorts", "--cohort")
        code, _, err = await cohorts(*push, "vip", "--state", tmp_path, stdin=b"user-1")
        assert code == 1
        assert f"{tmp_path} has no database of a connector of type braze_cohorts" in err
        assert "by --state. Or push without a comparison by --yes" in err
        assert (await cohorts(*push, "", "--state", daemon.state, stdin=b"user-1"))[0] == 2
        code, out, _ = await cohorts(*push, "vip", "--yes", "--state", tmp_path, stdin=b"user-1")
        assert (code, out) == (0, "vip: 1 user, compared with nothing\n")
        await daemon.settled("braze", 1)
        first = await cohorts(*push, "new", "--state", daemon.state, stdin=b"user-1")
        assert first == (0, "new: 1 user, +1 -0 of 0 members\n", ""), "of a cohort nobody knew"
        await daemon.settled("braze", 2)

        stores = daemon.state / "stores"
        (stores / "renamed.braze_cohorts.db").write_bytes((stores / "braze.braze_cohorts.db").read_bytes())
        code, _, err = await cohorts(*push, "vip", "--state", daemon.state, stdin=b"user-1")
        assert code == 1
        assert "by --connector: braze, renamed; if a connector does not exist any more, remove" in err
        braze = ("--state", daemon.state, "--connector", "braze")
        assert (await cohorts(*push, "vip", *braze, stdin=b"user-1"))[0] == 0
        assert await daemon.stop() == 0


async def test_a_url_that_takes_no_memberships_is_said_to_be_the_wrong_one(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    daemon.configure(
        "10-segments",
        f'[source.heap]\ntype="heap_segments"\npath="/segments"\nsecret={{file="{tmp_path}/secret"}}\n'
        '[source.open]\ntype="heap_segments"\npath="/open"',
    )
    await daemon.start()
    for url, advice in (
        (daemon.url.removeprefix("http://") + "/cohorts", "begin it with http:// or https://"),
        (daemon.url + "/segments", "is a source of type heap_segments; name one of type json"),
        (daemon.url + "/open", "for a source of type json"),
    ):
        code, _, err = await cohorts("push", "-", "--cohort", "vip", "--yes", "--url", url, stdin=b"user-1")
        assert (code, "trying again" in err, "RELAY_TOKEN" in err) == (1, False, False)
        assert advice in err
    assert await daemon.stop() == 0
