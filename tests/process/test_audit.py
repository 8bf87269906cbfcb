"""`relay audit`, `journal` and `trace`, on a relay that runs and on state that was damaged by hand."""

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from relay.admin.question_process import QuestionProcess
from relay.admin.server import Admin
from relay.api import Kind, User
from relay.cli.main import relay
from relay.config.load import load
from relay.config.model import AdminSettings, MetricsSettings
from relay.config.plugins.registry import Registry
from relay.inspect.audit import Audit, AuditedState, AuditRow, find_journal_problems, find_lane_problems, merge_audits
from relay.journal.identity import ANY, KnownJournal
from relay.journal.journal import Journal
from relay.journal.segment import make_path
from relay.state.attempts import save_attempts
from relay.state.database import StateDatabase
from relay.state.erasure.table import FolderErasures
from relay.state.layout import make_journal_folder, make_worker_folder
from relay.store import Attempts, Counts, Cursor, LaneLedger, LogSurvey, Parked, ParkedTotal, Refusals, SourceLedger
from relay.store.log import JournalLimits
from relay.testing import Destination, make_event
from relay.words import format_ranges
from tests.conftest import LONG
from tests.daemon import Daemon
from tests.unit.admin.shown_daemon import Shown

OPEN, ORDER = Kind("braze", "users.messages.email.Open"), Kind("shop", "order", "number")
CONF = """
[source.braze]
type = "currents"
path = "/currents"
[connector.all]
type = "http"
url = "http://127.0.0.1:9/"
[connector.mail]
type = "http"
url = "http://127.0.0.1:9/"
events = ["email", "!users.messages.email.Delivery"]
filters = ["mask", "only_ads"]
[connector.new]
type = "stdout"
events = ["push"]
[filter.mask]
type = "redact"
fields = ["properties.email_address"]
[filter.only_ads]
type = "drop"
field = "properties.kind"
equals = "invoice"
"""


def event(offset: int) -> bytes:
    kind = "invoice" if offset == 1 else "ad"
    return make_event(OPEN.type, n=offset, kind=kind, email_address="a@b.example").replace(
        b'"id":"', b'"id":"event-%d-' % offset
    )


EVENTS = [event(offset) for offset in range(9)] + [b'{"number": 77,\n "total": 1}']
IDS = [orjson.loads(body).get("id") for body in EVENTS]


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    """Ten events in three segments; lane `all` lacks 4, 5 and 9, `mail` has parked 2, and everything balances."""
    conf, folder = tmp_path / "conf.d", tmp_path / "state"
    conf.mkdir()
    (conf / "10.toml").write_text(CONF)
    for events in (EVENTS[:3], EVENTS[3:7], EVENTS[7:]):
        journal = Journal(folder / "journal", JournalLimits(64 << 20, 3600), 1 << 20)
        for group in [events] if events == EVENTS[:3] else [[body] for body in events]:
            await journal.append([ORDER if body == EVENTS[9] else OPEN for body in group], group)
        await journal.close()
    books = StateDatabase(folder)
    books.adopt_journal(KnownJournal(ANY, 10), "")
    await books.park([Parked("braze", "mail", 2, OPEN.type, "refused", "HTTP 422", 3, EVENTS[2])])
    await books.park([Parked("braze", None, None, None, "unreadable", "no event_type", 0, b'{"id":"typeless"}')])
    mail = Cursor(2, 10, [], Counts(delivered=6, parked=1, unselected=1))
    await books.save({"all": Cursor(0, 4, [(6, 9)], Counts(delivered=7)), "mail": mail}, 10)
    books.close()
    return folder


def run(state: Path, *command: str) -> Result:
    return CliRunner().invoke(relay, [*command, "--state", str(state), "--conf", str(state.parent / "conf.d")])


def audited(state: Path) -> tuple[int, list[str]]:
    result = run(state, "audit", "--json")
    return result.exit_code, json.loads(result.stdout)["problems"]


def edit(state: Path, change: str) -> None:
    with closing(sqlite3.connect(state / "relay.db")) as db, db:
        db.execute(change)


def flip(path: Path, text: bytes) -> None:
    path.write_bytes(path.read_bytes().replace(text, text[:-1] + b"?"))


async def test_an_audit_of_a_whole_state_balances(state: Path) -> None:
    result = run(state, "audit")
    assert result.exit_code == 0, result.output
    assert "Everything balances." in result.stdout
    rows = json.loads(run(state, "audit", "--json").stdout)["connectors"]
    assert [(row["connector"], row["accepted"], row["pending"], row["unsettled"]) for row in rows] == [
        ("all", 10, 3, 3),
        ("mail", 8, 0, 0),
    ]


async def test_a_missing_segment_is_found_with_its_offsets(state: Path) -> None:
    make_path(state / "journal", 3).unlink()
    code, problems = audited(state)
    assert code == 1
    assert any("gap from 3 to 7" in problem for problem in problems)
    assert "journal: offsets 3-6 cannot be read, of 0 to 9" in problems
    assert "all: unsettled offsets 4-5 cannot be read in the journal" in problems
    result = run(state, "journal", "check")
    assert (result.exit_code, "gap from 3 to 7" in result.stdout) == (1, True)


async def test_a_missing_journal_is_found(state: Path) -> None:
    for path in (state / "journal").glob("*.log"):
        path.unlink()
    code, problems = audited(state)
    assert code == 1
    assert problems == [
        "journal: offsets 0-9 cannot be read, of 0 to 9",
        "all: unsettled offsets 4-5, 9 cannot be read in the journal",
    ]


async def test_a_flipped_record_is_found_with_its_offset(state: Path) -> None:
    flip(make_path(state / "journal", 7), b"event-8-")
    code, problems = audited(state)
    assert code == 1
    assert "damaged at byte" in problems[0]
    assert "offset 8" in problems[0]
    assert problems[1:] == ["journal: offsets 8 cannot be read, of 0 to 9"], "what lies behind it can be read"


@pytest.mark.promise(2)
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("UPDATE cursor SET delivered = 6 WHERE connector = 'all'", "4 pending, but the cursor leaves 3 unsettled"),
        ("UPDATE cursor SET position = 5 WHERE connector = 'all'", "3 pending, but the cursor leaves 2 unsettled"),
        ("UPDATE cursor SET ahead = '[[6, 8]]' WHERE connector = 'all'", "4 unsettled: 4-5, 8-9"),
        ("UPDATE cursor SET position = 11, delivered = 7 WHERE connector = 'mail'", "the cursor is out of order"),
        ("UPDATE cursor SET parked = 0, delivered = 7 WHERE connector = 'mail'", "1 event parked, but 0 counted"),
    ],
)
async def test_a_ledger_that_was_tampered_with_does_not_balance(state: Path, change: str, told: str) -> None:
    edit(state, change)
    code, problems = audited(state)
    assert code == 1
    assert any(told in problem for problem in problems), problems


async def test_an_event_that_was_parked_but_not_yet_counted_is_no_fault(state: Path) -> None:
    books = StateDatabase(state)
    await books.park([Parked("braze", "all", 5, OPEN.type, "refused", "HTTP 422", 1, EVENTS[5])])
    books.close()
    assert audited(state) == (0, [])


async def test_events_of_a_removed_connector_may_have_left_the_journal(state: Path) -> None:
    make_path(state / "journal", 0).unlink()
    edit(state, "UPDATE cursor SET position = 1, delivered = 4, ahead = '[[6, 9]]' WHERE connector = 'all'")
    assert audited(state)[0] == 1
    edit(state, "UPDATE cursor SET connector = 'gone' WHERE connector = 'all'")
    assert audited(state) == (0, [])


async def test_audit_accepts_missing_events_under_expire_oldest(state: Path) -> None:
    make_path(state / "journal", 0).unlink()
    edit(state, "UPDATE cursor SET position = 1, delivered = 4, ahead = '[[6, 9]]' WHERE connector = 'all'")
    (state.parent / "conf.d" / "20.toml").write_text('[journal]\non_full = "expire_oldest"')
    assert audited(state) == (0, [])
    make_path(state / "journal", 3).unlink()
    assert audited(state)[0] == 0
    make_path(state / "journal", 7).unlink()
    assert audited(state)[0] == 1


async def test_check_tells_each_segment(state: Path) -> None:
    result = run(state, "journal", "check", "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["ok"]) == (0, True)
    assert [(one["base"], one["end"], one["events"], one["condition"]) for one in found["segments"]] == [
        (0, 3, 3, "good"),
        (3, 7, 4, "good"),
        (7, 10, 3, "good"),
    ]
    assert run(state / "nowhere", "journal", "check").exit_code == 1
    for base in (0, 3, 7):
        make_path(state / "journal", base).unlink()
    result = run(state, "journal", "check")
    assert (result.exit_code, "no segment, but 10 events were acknowledged" in result.stdout) == (1, True), (
        result.output
    )


async def test_dump_passes_the_events_on_as_they_are(state: Path) -> None:
    lines = run(state, "journal", "dump", "--from", "8").stdout_bytes.splitlines()
    assert [line.split(b'"event":')[1] for line in lines] == [EVENTS[8] + b"}", b'{"number": 77,  "total": 1}}']
    last = json.loads(lines[1])
    assert (last["offset"], last["source"], last["type"]) == (9, "shop", "order")

    def offsets(*options: str) -> list[int]:
        return [json.loads(line)["offset"] for line in run(state, "journal", "dump", *options).stdout.splitlines()]

    assert offsets("--from", "1", "--until", "3") == [1, 2]
    assert offsets("--events", "!email") == [9]
    assert offsets("--events", "email", "--from", "2", "--until", "8", "--limit", "3") == [2, 3, 4]
    assert offsets("--limit", "0") == []


async def test_dump_prints_what_is_good_and_says_that_not_all_is(state: Path) -> None:
    flip(make_path(state / "journal", 3), b"event-4-")
    result = run(state, "journal", "dump")
    assert [json.loads(line)["offset"] for line in result.stdout.splitlines()] == [0, 1, 2, 3, 7, 8, 9]
    assert result.exit_code == 1
    assert "offset 4" in result.stderr


def traced(state: Path, id: str) -> dict[str, tuple[str | None, str | None, str]]:
    (found,) = json.loads(run(state, "trace", id, "--json").stdout)["journal"]
    return {way["connector"]: (way["entry"], way["filters"], way["state"]) for way in found["connectors"]}


async def test_trace_tells_the_way_of_an_event_in_every_connector(state: Path) -> None:
    assert traced(state, IDS[1]) == {
        "all": ("*", None, "delivered at the first attempt"),
        "mail": ("email", "dropped by only_ads", "before the connector began"),
        "new": (None, None, "never ran"),
    }
    assert traced(state, IDS[2])["mail"] == ("email", "changed by mask", "parked (refused: HTTP 422)")
    assert traced(state, IDS[4])["all"] == ("*", None, "pending")
    changed = "if its `events` and `filters` are still the same"
    assert traced(state, "77")["mail"] == (None, None, f"unselected, {changed}")
    text = run(state, "trace", IDS[2]).stdout
    assert f"offset 2: {OPEN.type} from braze, received 20" in text
    assert 'mail: wanted by "email"; changed by mask; parked (refused: HTTP 422)' in text
    assert "new: not wanted: no entry matches; never ran" in text
    (state.parent / "conf.d" / "20.toml").write_text('[connector.off]\ntype = "stdout"\nenabled = false\n')
    with closing(sqlite3.connect(state / "relay.db")) as db, db:
        _, *row = db.execute("SELECT * FROM cursor WHERE connector = 'all'").fetchone()
        db.execute(f"INSERT INTO cursor VALUES ('off'{', ?' * len(row)})", row)
    assert "\n  off: switched off; " in run(state, "trace", IDS[2]).stdout
    (state.parent / "conf.d" / "20.toml").write_text('[connector.new]\ntype = "file"')
    result = run(state, "trace", IDS[2])
    assert "all: no valid configuration to tell if it is wanted (relay check); settled" in result.stdout
    assert "20.toml" in result.stderr


async def test_trace_finds_what_is_parked_only_and_says_if_there_is_nothing(state: Path) -> None:
    make_path(state / "journal", 0).unlink()
    assert "parked under connector mail, offset 2 (no longer in the journal)" in run(state, "trace", IDS[2]).stdout
    assert "parked under source braze: unreadable: no event_type" in run(state, "trace", "typeless").stdout
    nothing = run(state, "trace", "event-1")
    assert (nothing.exit_code, nothing.stdout) == (
        1,
        "event-1: not found in the journal, nor parked: it never came, is too old, or is damaged\n",
    )


async def test_trace_tells_no_more_than_so_much(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.inspect.search.FOUND", 2)
    journal = Journal(state / "journal", JournalLimits(64 << 20, 3600), 1 << 20)
    await journal.append([ORDER] * 3, [EVENTS[9]] * 3)
    await journal.close()
    result = run(state, "trace", "77")
    assert (result.exit_code, result.stdout.count("order from shop")) == (0, 2)
    assert result.stderr == "there are more events with this id, from offset 11 on\n"
    StateDatabase(make_worker_folder(state, 1), 1).close()
    other = Journal(make_journal_folder(state, Path("journal"), 1), JournalLimits(64 << 20, 3600), 1 << 20)
    await other.append([ORDER] * 3, [EVENTS[9]] * 3)
    await other.close()
    result = run(state, "trace", "77")
    assert result.stdout.count("order from shop") == 2
    assert result.stderr.count("there are more events with this id, from offset ") == 2


COMMANDS = [
    *(["audit", *how] for how in ([], ["--json"])),
    *(["journal", "check", *how] for how in ([], ["--json"])),
    ["journal", "dump"],
    ["journal", "dump", "--from", "2", "--until", "8", "--events", "email", "--events", "!x.*", "--limit", "3"],
    *(["trace", name, *how] for name in (*IDS[1:5:3], "typeless", "nö /?&") for how in ([], ["--json"])),
    ["replay", "--connector", "all", "--since", "1h", "--events", "email", "--dry-run"],
    ["replay", "--connector", "all", "--until", "1h", "--dry-run"],
    ["replay", "--connector", "new", "--dry-run"],
    ["replay", "--connector", "hoop", "--dry-run"],
    *(["erasures", "list", *how] for how in ([], ["--json"])),
    *(["erasures", "show", number, *how] for number in "12" for how in ([], ["--json"])),
    *(["erasures", "check", "--user-id", "anna", "--external-id", "a/1", *how] for how in ([], ["--json"])),
]


SINCE = ["--since", "2020-01-01"]
DIFFS = [
    ["diff", *SINCE, *more] for more in ([], ["--json"], ["--connector", "mail", "--limit", "5"], ["--connector", "x"])
]
"""Each needs the folder of a new configuration, and a relay that knows the files of its configuration."""
OF_ALL = [
    ["audit", "--json"],
    ["journal", "check", "--json"],
    ["trace", IDS[4], "--json"],
    ["replay", "--connector", "all", "--until", "1h", "--dry-run"],
]
"""What is said of a connector that is gone, and of a journal that has lost its beginning."""


@pytest.mark.usefixtures("forked_reader")
async def test_commands_say_the_same_whether_a_relay_runs_or_not(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.admin.question_process.NICE", 0)  # it reads a dozen times: not behind all other tests
    monkeypatch.setattr(QuestionProcess, "answer", read_once(QuestionProcess.answer))
    tried = [Attempts("all", replay, [(4, 6)], 1 + replay, "pending", "HTTP 503", 7.0, 8.5) for replay in (0, 3)]
    with closing(sqlite3.connect(state / "relay.db")) as db, db:
        save_attempts(db, tried)
    FolderErasures(state).ask(User("anna", ("å",)))
    new = state.parent / "new.d"
    new.mkdir()
    (new / "10.toml").write_text(CONF.replace('filters = ["mask", "only_ads"]', "").replace('"push"', '"email"'))
    commands = [*COMMANDS, *([name, str(new), *more] for name, *more in DIFFS)]
    config = load([state.parent / "conf.d"], Registry.discover(())).config

    async def all_that_is_said(commands: list[list[str]]) -> list[tuple[int, str, str]]:
        said = [await asyncio.to_thread(run, state, *command) for command in commands]
        return [(one.exit_code, one.stdout, one.stderr) for one in said]

    for harm, asked in ((damage, commands), (leave, OF_ALL)):
        harm(state)
        directly = await all_that_is_said(asked)
        shown: Any = Shown(state, config)  # as much of a daemon as these commands ask
        admin = Admin(shown, AdminSettings(), MetricsSettings())
        await admin.start()
        assert await all_that_is_said(asked) == directly
        await admin.stop()


def read_once(real: Any) -> Any:
    """Have what was asked before answered from memory, as long as the same API runs: two forms of a command ask the
    same, and each answer takes a process."""
    answers: dict[tuple[QuestionProcess, str], Any] = {}

    async def answer(reader: QuestionProcess, name: str, **more: Any) -> Any:
        asked = reader, f"{name} {more}"
        if asked not in answers:
            answers[asked] = await real(reader, name, **more)
        return answers[asked]

    return answer


def damage(state: Path) -> None:
    flip(make_path(state / "journal", 3), b"event-4-")


def leave(state: Path) -> None:
    """A connector is no longer configured, and what it needs no longer there."""
    make_path(state / "journal", 0).unlink()
    edit(state, "UPDATE cursor SET connector = 'gone', position = 1, delivered = 4, ahead = '[[6, 9]]' WHERE start = 0")


async def relay_command(daemon: Daemon, *command: str) -> tuple[int, str]:
    given = [*command, "--state", str(daemon.state), "--conf", str(daemon.conf)]
    async with asyncio.timeout(100):
        result = await asyncio.to_thread(CliRunner().invoke, relay, given)
    return result.exit_code, result.output


@pytest.mark.promise(2)
@pytest.mark.slow
async def test_a_relay_under_load_audits_as_balanced(daemon: Daemon) -> None:
    daemon.configure("10-source", '[source.braze]\ntype = "currents"\npath = "/currents"')
    daemon.configure("11-journal", '[journal]\npath = "elsewhere"\nmax_size = "16MiB"\nretention = "0s"')
    body = b'{"events":[' + b",".join(make_event(text="x" * 5000) for _ in range(20)) + b"]}"
    done = asyncio.Event()

    async def send() -> None:
        while not done.is_set():
            assert (await daemon.post(body))[0] in (202, 503)  # the destination may be slower than the sender
            await asyncio.sleep(0.01)  # so that there is CPU for what reads as well

    async with Destination() as hook:
        daemon.configure("20-hook", f'[connector.hook]\ntype="http"\nurl="{hook.url}"')
        await daemon.start()
        await daemon.post(body)
        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            for command in (["audit"], ["journal", "check"], ["trace", "nothing"]) * (5 if LONG else 1):
                code, out = await relay_command(daemon, *command)
                assert code == (1 if command[0] == "trace" else 0), out
                assert "damaged at" not in out, out
            done.set()
        assert await daemon.stop() == 0
    code, out = await relay_command(daemon, "audit")
    assert (code, "Everything balances." in out) == (0, True), out


def test_what_was_settled_and_removed_while_the_audit_ran_is_not_missed() -> None:
    journal = LogSurvey(parts=1, oldest=7, kept=[(7, 10)], problems=[])
    before = LaneLedger("all", 10, Cursor(0, 4, [], Counts(delivered=4)))
    after = LaneLedger("all", 15, Cursor(0, 8, [], Counts(delivered=8)))
    seen = AuditedState(before=[before], parked={}, journal=journal, after=[after])
    assert [*find_journal_problems(seen), *find_lane_problems(before, seen, may_expire=False)] == []
    stuck = AuditedState(before=[before], parked={}, journal=journal, after=[before])
    assert [*find_lane_problems(before, stuck, may_expire=False)] == [
        "unsettled offsets 4-6 cannot be read in the journal"
    ]


def test_many_ranges_are_cut_short() -> None:
    assert format_ranges([(start, start + 2) for start in range(0, 60, 5)]).endswith("40-41, 45-46 and 2 more ranges")


def test_workers_balance_together_if_each_does() -> None:
    def found(delivered: int, *problems: str, **books: Any) -> Audit:
        row = AuditRow("all", 5, delivered, 0, 0, 0, 0, 0, 0, 5 - delivered, 5 - delivered, balances=not problems)
        sources = [SourceLedger("braze", 2, **books)]
        parked = [ParkedTotal(source="braze", connector=None, cause="unreadable", events=2, removed={"a": 1})]
        return Audit(
            balances=not problems, segments=1, oldest=1, head=6, connectors=[row], sources=sources, parked=parked,
            problems=problems,
        )  # fmt: skip

    refusals = Refusals(1.0, 2.0, 401, "no", None)
    good = merge_audits({0: found(5), 2: found(3, refusals=refusals)})
    assert (good.balances, good.segments, good.oldest, good.head, good.problems) == (True, 2, 2, 12, [])
    assert good.connectors == [AuditRow("all", 10, 8, 0, 0, 0, 0, 0, 0, 2, 2, balances=True)]
    assert good.sources == [SourceLedger("braze", 4, refusals)]
    assert [(one.events, one.removed) for one in good.parked] == [(4, {"a": 2})]
    bad = merge_audits({0: found(5), 2: found(3, "all: 1 is lost")})
    assert (bad.balances, bad.connectors[0].balances, bad.problems) == (False, False, ["worker 2: all: 1 is lost"])
    assert [(one.worker, one.balances) for one in bad.workers] == [(0, True), (2, False)]
