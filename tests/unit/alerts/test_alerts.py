"""Alerts as the daemon has them: a real database, alerts that misbehave, and no daemon."""

import asyncio
import dataclasses
import json
import sqlite3
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from msgspec.structs import replace

from relay.alerts import Alerts
from relay.alerts.compose import ALARMS_AT_MOST, make_alarms
from relay.alerts.schedule import AlertRules, Memory, take_step
from relay.alerts.sender import WAITING, SendTimes
from relay.api import Alarm, Alert, AlertSettings, Message, Reject, Retry
from relay.config.model import Config, Configured, JournalSettings, RuntimeSettings
from relay.engine import open_store
from relay.proposal.changes import compare_alerts_and_settings
from relay.state.alerts import FolderAlerts
from relay.state.layout import DATABASE
from relay.state.migrations import make_tables
from relay.status.conditions import Condition, find_conditions
from relay.status.diagnosis import diagnose
from relay.status.model import LastError, Status
from relay.store import MESSAGES_KEPT, AlertMessage
from relay.testing import make_message
from tests.unit.status.statuses import NOON, a_lane, a_source, a_status

HEAP = Condition("failing", "connector heap", "heap: failing", NOON - 3600, {"pending": 12})


class Fake(Alert, type="fake"):
    """Does what the test says."""

    got: list[Message]
    mood: Callable[[Message], Any]

    async def send(self, message: Message) -> None:
        answer = type(self).mood(message)
        if asyncio.iscoroutine(answer):
            await answer
        type(self).got.append(message)


TIMES = SendTimes(first_wait=0.01, longest_wait=0.02, settle=0.0, close=60.0)
"""`close`: a restart in the middle of a save sends a message again."""


@pytest.fixture(autouse=True)
def fresh() -> None:
    Fake.got = []
    Fake.mood = lambda _: None  # type: ignore[method-assign, assignment]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with closing(sqlite3.connect(tmp_path / DATABASE, isolation_level=None)) as db:
        make_tables(db, 0)
    return tmp_path


def config(relay: str = "relay", **tables: dict[str, Any]) -> Config:
    named: dict[str, Any] = {
        name: Configured(
            name, Fake, AlertSettings(type="fake").model_copy(update={"after": 0.0} | table), "80-alerts.toml", 1
        )
        for name, table in (tables or {"ops": {}}).items()
    }
    return Config(alerts=named, runtime=RuntimeSettings(name=relay))


@dataclass
class Look:
    conditions: list[Condition]
    status: Status


def look(*conditions: Condition, now: float = NOON) -> Look:
    return Look([*conditions], replace(a_status(), now=now))


@asynccontextmanager
async def running(folder: Path, config: Config, times: SendTimes = TIMES) -> AsyncIterator[Alerts]:
    alerts = Alerts(open_store(folder, JournalSettings()).alerts, times)
    await alerts.change(config, alerts.make_alerts(config))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(alerts.run(), name="alerts")
        try:
            async with asyncio.timeout(30):
                yield alerts
        finally:
            task.cancel()


async def until(good: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not good():
            await asyncio.sleep(0.005)


def told() -> list[list[str]]:
    return [[f"{one.subject} {one.state}" for one in message.alarms] for message in Fake.got]


async def test_what_was_sent_is_not_repeated_after_a_restart(folder: Path) -> None:
    async with running(folder, config()) as alerts:
        alerts.take_snapshot(look(HEAP))
        await until(lambda: alerts.statuses[0].sent)
        assert alerts.statuses[0].told == ["connector heap: failing"]
    async with running(folder, config()) as alerts:
        alerts.take_snapshot(look(HEAP, now=NOON + 60))
        await alerts.test("ops")
        alerts.take_snapshot(look(now=NOON + 120))
        await until(lambda: len(Fake.got) == 3)
    assert told() == [["connector heap began"], ["relay began"], ["connector heap over"]]
    assert [message.test for message in Fake.got] == [False, True, False]
    assert Fake.got[1].title.startswith("[test] relay on ")
    assert Fake.got[1].text.endswith(": a test\n\nThis is a test of [alert.ops]. Nothing need be wrong.")
    assert Fake.got[2].alarms[0].sentence == "heap: working; nothing pending"
    assert Fake.got[2].alarms[0].changed == "it lasted for 1h 2m"


async def test_what_a_destination_says_is_not_kept_beside_the_messages(folder: Path) -> None:
    """An erasure hides users in the messages of the table; what is only in memory ends with the process."""
    said = replace(HEAP, facts={"pending": 12, "last_error": {"reason": "no user anna-1"}})
    async with running(folder, config()) as alerts:
        alerts.take_snapshot(look(said))
        await until(lambda: alerts.statuses[0].sent)
    tracks, (message,) = FolderAlerts(folder).read({"ops"})
    ((_, track),) = tracks["ops"].items()
    assert "anna-1" in message.message
    assert "anna-1" not in track
    assert json.loads(track)["said"] == {"kind": "failing", "pending": 12}


async def test_a_lane_that_has_not_tried_since_a_restart_is_not_told_to_be_well(
    folder: Path,
) -> None:
    times = replace(TIMES, settle=3600.0)
    async with running(folder, config(), times) as alerts:
        alerts.take_snapshot(look(HEAP))
        await until(lambda: alerts.statuses[0].sent)
    async with running(folder, config(), times) as alerts:
        for seconds, *wrong in ((10,), (15, HEAP), (20,)):
            alerts.take_snapshot(look(*wrong, now=NOON + seconds))
            await alerts.test("ops")
        await until(lambda: len(Fake.got) == 5)
    assert [one for one in told() if one != ["relay began"]] == [["connector heap began"], ["connector heap over"]]
    assert Fake.got[-1].at >= Fake.got[-2].at


async def test_a_kill_before_a_sent_message_is_saved_sends_the_message_again(folder: Path) -> None:
    async with running(folder, config()) as alerts:
        alerts.take_snapshot(look(HEAP))
        await until(lambda: alerts.statuses[0].sent)
    with closing(sqlite3.connect(folder / DATABASE)) as db, db:  # as it was before the message was noted as sent
        db.execute("UPDATE alert_message SET sent = NULL, last = NULL, attempts = 0")
    async with running(folder, config()) as alerts:
        alerts.take_snapshot(look(HEAP, now=NOON + 60))
        await until(lambda: alerts.statuses[0].sent)
    first, second = Fake.got
    assert first == second


async def test_four_at_once_are_one_message_that_names_all_of_them(folder: Path) -> None:
    journal = Condition("journal_filling", "journal", "journal: 90% of what it may take", NOON - 400, {"fill": 0.9})
    braze = Condition("source_refusing", "source braze", "braze: 401", NOON - 310, {"deadline": NOON + 86400})
    archive = replace(HEAP, subject="connector archive", since=NOON - 290)
    full = replace(a_status(), journal=replace(a_status().journal, full_in=7200.0))
    async with running(folder, config(ops={"after": 300})) as alerts:
        alerts.take_snapshot(Look([HEAP, archive, journal, braze], full))
        await until(lambda: Fake.got)
    (message,) = Fake.got
    assert {one.subject for one in message.alarms} == {
        "connector heap", "connector archive", "journal", "source braze"
    }  # fmt: skip
    assert "4 alarms: connector heap, connector archive, journal, source braze" in message.title
    assert message.alarms[0].facts["full_at"] == NOON + 7200
    assert "Braze disables the Current at" in message.text


@pytest.mark.parametrize(
    "raised", [Retry("busy"), OSError("no route"), KeyError("oops"), SystemExit(3), asyncio.CancelledError()], ids=repr
)
async def test_a_destination_that_is_down_gets_all_of_it_afterwards_in_order(
    folder: Path, raised: BaseException
) -> None:
    down = True

    def mood(_: Message) -> None:
        if down:
            raise raised

    Fake.mood = mood  # type: ignore[method-assign, assignment]
    async with running(folder, config(ops={"again": 60})) as alerts:
        for minute in range(3):
            alerts.take_snapshot(look(HEAP, now=NOON + 60 * minute))
            await until(lambda: alerts.statuses[0].waiting == minute + 1)  # noqa: B023
        await until(lambda: alerts.statuses[0].failed > 2)
        (status,) = alerts.statuses
        assert (status.sent, status.waiting, status.failing is not None) == (0, 3, True)
        assert not diagnose(replace(a_status(), alerts=[status])).ok
        assert "alert ops: sends nothing since" in diagnose(replace(a_status(), alerts=[status])).alerts[0].said
        down = False
        await until(lambda: len(Fake.got) == 3)
        await until(lambda: alerts.statuses[0].failing is None)
    assert told() == [["connector heap began"], ["connector heap lasts"], ["connector heap lasts"]]


@pytest.mark.parametrize(("asked", "attempts", "least"), [(None, 5, 0.75), (0.3, 2, 0.3)])
async def test_a_destination_that_stays_down_is_tried_ever_later_and_as_it_asks(
    folder: Path, asked: float | None, attempts: int, least: float
) -> None:
    times = replace(TIMES, first_wait=0.05, longest_wait=60.0)
    tried: list[float] = []

    def mood(_: Message) -> None:
        tried.append(time.monotonic())
        raise Retry("busy", after=asked)

    Fake.mood = mood  # type: ignore[method-assign, assignment]
    async with running(folder, config(), times) as alerts:
        alerts.take_snapshot(look(HEAP))
        await until(lambda: len(tried) == attempts)
    assert tried[-1] - tried[0] >= least, "at the earliest: a busy machine takes longer"


async def test_a_destination_that_hangs_has_its_time_and_holds_up_no_other_alert(folder: Path) -> None:
    async def hang() -> None:
        await asyncio.sleep(600)

    Fake.mood = lambda message: hang() if message.relay == "slow" else None  # type: ignore[method-assign, assignment]
    slow = config("slow", ops={"timeout": 0.05})
    async with running(folder, slow) as alerts:
        alerts.take_snapshot(look(HEAP))
        await until(lambda: alerts.statuses[0].failed)
        assert alerts.statuses[0].last is not None
        assert alerts.statuses[0].last.problem == "it was not sent within 0.05 s"
        both = config("slow", ops={"timeout": 600}, other={})
        await alerts.change(both, alerts.make_alerts(both))
        Fake.mood = lambda message: hang() if len(Fake.got) == 0 and not message.test else None  # type: ignore[method-assign, assignment]
        await alerts.test("other")
    assert [message.test for message in Fake.got] == [True]


async def test_very_many_at_once_are_one_message_that_counts_the_rest(folder: Path) -> None:
    many = [replace(HEAP, subject=f"connector c{number}") for number in range(ALARMS_AT_MOST + 10)]
    async with running(folder, config()) as alerts:
        alerts.take_snapshot(look(*many))
        await until(lambda: Fake.got)
        messages = [*Fake.got, alerts.preview()["ops"]]
    assert [(len(one.alarms), one.left_out, one.title[-7:]) for one in messages] == [
        (ALARMS_AT_MOST, 10, "55 more")
    ] * 2
    assert all(one.text.endswith(": relay alerts show") for one in messages)


async def test_a_message_that_is_refused_holds_up_no_other(folder: Path) -> None:
    def mood(message: Message) -> None:
        if message.alarms[0].state == "began":
            raise Reject("too odd")

    Fake.mood = mood  # type: ignore[method-assign, assignment]
    async with running(folder, config(ops={"again": 60})) as alerts:
        for minute in range(2):
            alerts.take_snapshot(look(HEAP, now=NOON + 60 * minute))
            await until(lambda: alerts.statuses[0].failed)
        await until(lambda: alerts.statuses[0].sent)
        assert alerts.statuses[0].waiting == 1
    assert told() == [["connector heap lasts"]]


async def test_a_test_that_fails_is_told_at_once_and_not_tried_again(folder: Path) -> None:
    def mood(_: Message) -> None:
        raise Retry("busy")

    Fake.mood = mood  # type: ignore[method-assign, assignment]
    async with running(folder, config(ops={})) as alerts:
        alerts.take_snapshot(look(HEAP))
        await until(lambda: alerts.statuses[0].failed)
        tried = await alerts.test("ops")
        assert (tried.sent, tried.problem, tried.attempts) == (None, "busy", 1)
        assert (alerts.statuses[0].waiting, alerts.statuses[0].given_up) == (1, 1)
        with pytest.raises(LookupError, match="there is no alert pos; there are: ops"):
            await alerts.test("pos")


def message_of(number: int, made: float = NOON) -> AlertMessage:
    alarm = Alarm(kind="failing", subject=f"connector c{number}", state="began", sentence="", since=made)
    made_of = Message(id=f"m-{number}", at=made, relay="relay", host="h", alarms=(alarm,))
    return AlertMessage(f"m-{number}", "ops", made, msgspec.json.encode(made_of).decode())


async def test_what_cannot_be_sent_for_a_day_or_is_too_much_is_given_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.alerts.sender.time.time", lambda: NOON)
    old = [message_of(number, NOON - 86400) for number in range(2)]
    FolderAlerts(folder).save_tracks("ops", {}, [*old, *map(message_of, range(2, WAITING + 5))])
    async with running(folder, config()) as alerts:
        await until(lambda: not alerts.statuses[0].waiting)
        (status,) = alerts.statuses
        assert (status.given_up, status.sent) == (5, WAITING)
    assert Fake.got[0].id == "m-5"
    _, messages = FolderAlerts(folder).read({"ops"})
    assert len(messages) == MESSAGES_KEPT
    assert all(one.sent for one in messages)


async def test_what_cannot_be_sent_for_a_day_is_given_up_however_little_waits(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.alerts.sender.time.time", lambda: NOON)
    FolderAlerts(folder).save_tracks("ops", {}, [message_of(1, NOON - 86400), message_of(2, NOON - 86399)])
    with structlog.testing.capture_logs() as logs:
        async with running(folder, config()) as alerts:
            await until(lambda: not alerts.statuses[0].waiting)
    assert [one.id for one in Fake.got] == ["m-2"]
    assert [(one["id"], one["log_level"]) for one in logs if one["event"] == "alert given up"] == [("m-1", "error")]


async def test_a_database_that_cannot_be_written_costs_no_message(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(folder, config()) as alerts:
        (folder / DATABASE).rename(folder / "elsewhere")
        alerts.take_snapshot(look(HEAP))
        await until(lambda: alerts.statuses[0].sent)
        (folder / "elsewhere").rename(folder / DATABASE)
        alerts.take_snapshot(look(now=NOON + 60))
        await until(lambda: alerts.statuses[0].sent == 2)
    assert told() == [["connector heap began"], ["connector heap over"]]
    tracks, messages = FolderAlerts(folder).read({"ops"})
    assert [one.sent is None for one in messages] in ([False], [False, False]), "the first may be noted late"
    assert tracks == {"ops": {}}


async def test_a_reload_changes_alerts_and_forgets_removed_alerts(folder: Path) -> None:
    async with running(folder, config(ops={}, gone={})) as alerts:
        alerts.take_snapshot(look(HEAP))
        await until(lambda: len(Fake.got) == 2)
        new = config(ops={"again": 60}, added={"only": ("archive",)})
        made = alerts.make_alerts(new)
        assert sorted(made) == ["added", "ops"]
        await alerts.change(new, made)
        assert [one.alert for one in alerts.statuses] == ["ops", "added"]
        assert alerts.make_alerts(new) == {}
        alerts.take_snapshot(look(HEAP, now=NOON + 61))
        await until(lambda: len(Fake.got) == 3)
    assert told()[2] == ["connector heap lasts"]
    tracks, messages = FolderAlerts(folder).read({"ops", "gone"})
    assert (len(tracks["ops"]), len(tracks["gone"])) == (1, 0)
    assert {one.alert for one in messages} == {"ops"}


async def test_what_has_expired_is_told_for_a_day(folder: Path) -> None:
    def lost(events: int, now: float) -> Look:
        lanes = [a_lane(outcomes={"expired": events})]
        return Look([], replace(a_status(lanes=lanes), now=now))

    async with running(folder, config()) as alerts:
        for number, (events, passed) in enumerate([(5, 0), (5, 60), (8, 120), (9, 3600), (9, 80_000), (9, 90_001)]):
            alerts.take_snapshot(lost(events, NOON + passed))
            await alerts.test("ops")
            assert len(told()) >= number
        await until(lambda: alerts.statuses[0].sent == 8)
    (began,), (over,) = [one.alarms for one in Fake.got if not one.test]
    assert (began.kind, began.state, over.state) == ("expired", "began", "over")
    assert began.sentence.startswith("heap: 3 events expired: the journal could not keep them any longer; make room")


@pytest.mark.parametrize("broken", ["_try_to_send", "_note_outcome", "_send_all"])
async def test_a_test_goes_the_way_of_all_messages(folder: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    async def fail(*_: Any) -> None:
        raise KeyError("broken")

    monkeypatch.setattr(f"relay.alerts.sender.Sender.{broken}", fail)
    async with running(folder, config(ops={"timeout": 0.1}), replace(TIMES, margin=0.3)) as alerts:
        alerts.take_snapshot(look(HEAP))
        await until(lambda: alerts.statuses[0].waiting)
        with pytest.raises(OSError, match="not known yet"):
            await alerts.test("ops")
        assert alerts.statuses[0].sent == 0


async def test_what_would_be_told_now_is_shown_without_being_told(folder: Path) -> None:
    status = replace(a_status(lanes=[a_lane()], sources=[a_source()]), now=NOON)
    async with running(folder, config(ops={"after": 300}, other={"only": ("journal",)})) as alerts:
        with pytest.raises(OSError, match="has just started"):
            alerts.preview()
        alerts.take_snapshot(Look([replace(HEAP, since=NOON, sentence="heap: \x1b[31mred\nline")], status))
        shown = alerts.preview()
        assert [one.sentence for one in shown["ops"].alarms] == ["heap: \\u001b[31mred line"]
        assert shown["other"].alarms == ()
        assert json.dumps(shown["ops"].data)
    assert Fake.got == []


async def test_an_alert_does_not_tell_of_itself_but_of_others(folder: Path) -> None:
    failing = Condition("alert_failing", "alert ops", "alert ops: sends nothing", NOON - 60, {})
    async with running(folder, config(ops={}, other={})) as alerts:
        alerts.take_snapshot(look(failing))
        await until(lambda: alerts.statuses[1].sent)
        await alerts.test("ops")
        assert [one.sent for one in alerts.statuses] == [1, 1]
        assert [[one.subject for one in message.alarms] for message in alerts.preview().values()] == [[], ["alert ops"]]
    assert told() == [["alert ops began"], ["relay began"]]


def test_what_is_saved_of_a_message_that_is_not_there_yet_is_saved(folder: Path) -> None:
    FolderAlerts(folder).save_message(replace(message_of(1), sent=NOON))
    assert [one.sent for one in FolderAlerts(folder).read({"ops"})[1]] == [NOON]


def test_an_end_names_the_told_problem_and_a_new_kind_names_the_old_kind() -> None:
    behind = replace(HEAP, kind="behind", since=NOON + 60)
    filling = Condition("journal_filling", "journal", "journal: 90%", NOON - 400, {})
    full = replace(filling, kind="journal_full", sentence="journal: takes no events", since=NOON + 60)
    fills = replace(a_status(), journal=replace(a_status().journal, full_in=7200.0))
    rules = AlertRules.make(AlertSettings(type="fake"))
    memory: Memory = {}
    told = list[Alarm]()
    for passed, wrong in ((0, [HEAP, filling]), (60, [behind, full]), (120, [full]), (430, [full])):
        memory, due = take_step(memory, wrong, NOON + passed, rules)
        told += make_alarms(due, replace(fills, now=NOON + passed), rules)
    assert [(one.kind, one.state, one.was, "full_at" in one.facts) for one in told] == [
        ("failing", "began", "", True),
        ("journal_filling", "began", "", True),
        ("journal_full", "lasts", "journal_filling", False),
        ("failing", "over", "", False),
    ]
    assert make_message(told[2]).title.endswith("journal: full, was filling")


async def test_a_failing_alert_stays_failing_over_a_restart_and_a_reload(folder: Path) -> None:
    def mood(_: Message) -> None:
        raise Retry("busy")

    Fake.mood = mood  # type: ignore[method-assign, assignment]
    async with running(folder, config()) as alerts:
        alerts.take_snapshot(look(HEAP))
        await until(lambda: alerts.statuses[0].failed)
        since = alerts.statuses[0].failing
    again = Alerts(open_store(folder, JournalSettings()).alerts, TIMES)
    await again.change(config(), again.make_alerts(config()))
    assert since is not None
    assert again.statuses[0].failing == pytest.approx(since, abs=5)
    await again.change(config(ops={"again": 60}), again.make_alerts(config(ops={"again": 60})))
    assert again.statuses[0].failing == pytest.approx(since, abs=5)


@pytest.mark.parametrize(
    ("messages", "failing"),
    [
        ([], None),
        ([{"attempts": 0}], None),
        ([{"last": NOON + 9, "sent": NOON + 9}], None),
        ([{"last": NOON + 9, "given_up": NOON + 9}], NOON + 1),
        ([{"last": NOON + 5, "sent": NOON + 5}, {"last": NOON + 9}, {"attempts": 0}], NOON + 2),
        ([{"last": NOON + 9}, {"last": NOON + 10, "sent": NOON + 10}], None),
    ],
)
async def test_an_alert_fails_since_the_first_message_that_was_not_sent(
    folder: Path, messages: list[dict[str, Any]], failing: float | None
) -> None:
    for number, given in enumerate(messages, 1):
        FolderAlerts(folder).save_message(replace(message_of(number, NOON + number), **given))
    alerts = Alerts(open_store(folder, JournalSettings()).alerts, TIMES)
    await alerts.change(config(), alerts.make_alerts(config()))
    assert alerts.statuses[0].failing == failing


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (FileNotFoundError(2, "No such file or directory", "/no/page"), "No such file or directory (/no/page)"),
        (ConnectionError("see https://chat.example/T0/s3cret"), "ConnectionError: see https://chat.example"),
        (ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] failed (_ssl.c:1)"), "TLS: "),
        (ValueError("a bug"), "a bug"),
    ],
)
async def test_what_a_plugin_raises_is_told_as_of_connectors(folder: Path, error: Exception, problem: str) -> None:
    def mood(_: Message) -> None:
        raise error

    Fake.mood = mood  # type: ignore[method-assign, assignment]
    async with running(folder, config()) as alerts:
        tried = await alerts.test("ops")
    assert tried.problem.startswith(problem)
    assert "s3cret" not in tried.problem


async def test_dropped_messages_of_a_removed_alert_are_logged(folder: Path) -> None:
    FolderAlerts(folder).save_message(message_of(1))
    alerts = Alerts(open_store(folder, JournalSettings()).alerts, TIMES)
    await alerts.change(config(), alerts.make_alerts(config()))
    with structlog.testing.capture_logs() as logs:
        await alerts.change(Config(), {})
    assert [(one["event"], one["alert"], one["messages"]) for one in logs] == [
        ("messages of an alert are dropped", "ops", 1)
    ]
    off = dataclasses.replace(Config(), disabled=("alert.ops",))
    assert compare_alerts_and_settings(config(), Config(), []).lines == ["alert ops: removed"]
    assert compare_alerts_and_settings(config(), off, []).lines == ["alert ops: switched off"]


@pytest.mark.parametrize(
    ("kind", "subject", "title", "sentence"),
    [
        ("failing", "connector gone", "no longer failing", "gone: not configured any more, or switched off"),
        ("alert_failing", "alert gone", "no longer failing", "gone: not configured any more, or switched off"),
        ("parked", "connector heap", "no events parked any more", "heap: working; nothing pending"),
        ("doubt", "clock", "right again", ""),
    ],
)
def test_what_is_over_says_how_it_is_now(kind: str, subject: str, title: str, sentence: str) -> None:
    rules = AlertRules.make(AlertSettings(type="fake"))
    status = replace(a_status(lanes=[a_lane()]), now=NOON + 900)
    memory: Memory = {}
    for passed, wrong in ((0, [Condition(kind, subject, "", NOON - 400, {})]), (400, []), (900, [])):
        memory, due = take_step(memory, wrong, NOON + passed, rules)
    (over,) = make_alarms(due, status, rules)
    assert (over.state, over.sentence) == ("over", sentence)
    assert make_message(over).title.endswith(f"{subject}: {title}")


def test_a_pause_of_a_reported_problem_is_reported_as_a_pause() -> None:
    rules, memory = AlertRules.make(AlertSettings(type="fake")), dict[Any, Any]()
    refusing, paused = replace(HEAP, kind="refusing"), replace(HEAP, kind="paused", sentence="heap: paused by an admin")
    told = list[Alarm]()
    for passed, wrong in ((0, [refusing]), (60, [paused]), (400, [paused]), (500, []), (900, [])):
        memory, due = take_step(memory, wrong, NOON + passed, rules)
        told += make_alarms(due, replace(a_status(), now=NOON + passed), rules)
    assert [make_message(one).title.removeprefix("relay on host-1: connector heap: ") for one in told] == [
        "refusing",
        "paused, was refusing",
        "no longer paused",
    ]
    assert told[1].sentence == "heap: paused by an admin"
    _, unknown = take_step({}, [paused], NOON + 400, rules)
    assert not unknown, "an admin knows of the pause"


def test_what_comes_and_goes_says_when_the_next_message_comes() -> None:
    rules, memory, told = AlertRules.make(AlertSettings(type="fake")), dict[Any, Any](), list[Alarm]()
    for passed in range(0, 480, 60):
        memory, due = take_step(memory, [] if passed % 120 else [replace(HEAP, since=NOON)], NOON + passed, rules)
        told += make_alarms(due, replace(a_status(), now=NOON + passed), rules)
    assert [one.changed for one in told] == [
        "it has begun 4 times within 6m 0s, and is not told each time;"
        " the next message comes when it has stayed wrong, or stayed well, for 15m 0s"
    ]


async def test_what_a_destination_answers_is_in_no_message(folder: Path) -> None:
    """Siblings: the sentence, the last error, what has changed, and how it is when another trouble is left."""
    quoted = LastError(at=NOON, reason='HTTP 400: {"email": "anna@example.com"}', status=400)
    lane = a_lane(state="refusing", since=NOON - 60, last_error=quoted)
    status = replace(a_status(lanes=[lane]), now=NOON)
    wrong = find_conditions(status)
    assert "anna" in wrong[0].sentence
    bug = replace(quoted, reason="bug in the connector: KeyError: 'bert'", status=None)
    later = replace(status, now=NOON + 60, lanes=[replace(lane, last_error=bug)])
    async with running(folder, config(ops={"again": 1.0}, other={"on": ("failing",)})) as alerts:
        alerts.take_snapshot(Look([*wrong, HEAP], status))
        await until(lambda: len(Fake.got) == 2)
        alerts.take_snapshot(Look(find_conditions(later), later))
        await until(lambda: len(Fake.got) == 4)
        shown = [one.data for one in alerts.preview().values()]
    told = json.dumps([*shown, *(one.data for one in Fake.got)])
    assert ("HTTP 400;" in told, "KeyError;" in told, "the last error was HTTP 400" in told) == (True, True, True)
    assert not [word for word in ("anna", "bert") if word in told]
