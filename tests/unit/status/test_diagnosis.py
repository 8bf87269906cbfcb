"""How a lane, a source and the journal are, in words."""

import re
from typing import Any

import pytest
from msgspec.structs import replace

from relay.cli.commands.running.status import format_screen
from relay.status.conditions import find_conditions
from relay.status.diagnosis import (
    describe_alert,
    describe_certificate,
    describe_lane,
    describe_source,
    diagnose,
)
from relay.status.model import (
    AlertStatus,
    CertificateStatus,
    LastAlert,
    LastError,
    ListenerStatus,
    Refusing,
    RemovedConnector,
    ReplayStatus,
    WorkerStatus,
)
from relay.status.prometheus import render_metrics
from relay.store import Doubt, FailingErasures
from relay.words import format_span
from tests.unit.status.statuses import NOON, a_lane, a_source, a_status

MORNING = NOON - 7080  # 10:02


def error(reason: str, status: int | None = None) -> LastError:
    return LastError(at=NOON, reason=reason, status=status)


def written(said: str) -> str:
    """The sentence with a word for 10:02 of the day."""
    return said.replace("2027-01-15T10:02:00Z", "MORNING")


UNAUTHORIZED = {"state": "unauthorized", "since": MORNING, "pending": 12_340}
REFUSING = {"state": "refusing", "since": MORNING, "parked_now": 3}
FAILING = {"state": "failing", "since": MORNING, "pending": 1, "oldest_pending": NOON}


@pytest.mark.parametrize(
    ("ok", "given", "said"),
    [
        (True, {}, "working; nothing pending"),
        (
            True,
            {"pending": 5, "oldest_pending": NOON - 3600, "batch_wait": 3600.0},
            "working; 5 pending, the oldest for 1h 0m",
        ),
        (
            False,
            {"pending": 5, "oldest_pending": NOON - 3660, "batch_wait": 3600.0},
            "behind; 5 pending, the oldest for 1h 1m",
        ),
        (
            False,
            UNAUTHORIZED | {"last_error": error("HTTP 401: no", 401), "secrets": ['token (credential "heap-token")']},
            "unauthorized, the destination does not accept relay since MORNING: HTTP 401: no; 12,340 pending;"
            ' check token (credential "heap-token") in 60-heap.toml: it was accepted until then;'
            " a new secret needs systemctl restart relay; relay resume heap tries again at once",
        ),
        (
            False,
            UNAUTHORIZED | {"last_error": error("HTTP 403", 403), "secrets": ['token (file "/etc/relay/token")']},
            "unauthorized, the destination does not accept relay since MORNING: HTTP 403; 12,340 pending;"
            ' check token (file "/etc/relay/token") in 60-heap.toml: it was accepted until then;'
            " a new secret needs relay reload; relay resume heap tries again at once",
        ),
        (
            False,
            UNAUTHORIZED | {"last_error": error("HTTP 404", 404), "oldest_pending": MORNING},
            "unauthorized, the destination does not accept relay since MORNING: HTTP 404; 12,340 pending, the oldest"
            " for 1h 58m; check the address in 60-heap.toml;"
            " relay resume heap tries again at once",
        ),
        (
            False,
            UNAUTHORIZED | {"last_error": error("no such key"), "unanswered": 12.0},
            "unauthorized, the destination does not accept relay since MORNING: no such key; 12,340 pending;"
            " no answer yet for 12s; mend that at the destination, or the address and credentials in 60-heap.toml;"
            " relay resume heap tries again at once",
        ),
        (
            False,
            {"state": "paused", "since": NOON - 86400, "last_error": error("HTTP 401", 401)},
            "paused by an admin at 2027-01-14T12:00:00Z; nothing pending; relay resume heap lets it go on",
        ),
        (
            False,
            {"state": "paused", "since": MORNING, "paused_until": NOON + 3600, "pending": 2, "drained_in": 9.0},
            "paused by an admin at MORNING until 2027-01-15T13:00:00Z; 2 pending; relay resume heap lets it go on",
        ),
        (
            False,
            REFUSING | {"last_error": error("HTTP 422: no such field", 422), "parked_full_in": 7200.0},
            "refusing, the destination has taken no event since MORNING: HTTP 422: no such field; nothing pending;"
            " 3 parked (relay parked list --connector heap); the oldest of them are removed in 2h 0m if it goes on like"
            " this (parked.max_size); relay pause heap keeps further events in the journal; relay parked show NUMBER"
            " shows an event of that list, and the answer; after the repair: relay parked replay --connector heap",
        ),
        (True, {"pending": 5, "drained_in": 37.0, "unanswered": 4.9}, "working; 5 pending; drains in 37s"),
        (True, {"pending": 5, "drained_in": 37.0, "unanswered": 12.0}, "working; 5 pending; no answer yet for 12s"),
        (
            False,
            FAILING | {"last_error": error("no answer in time"), "next_try": 3.0, "unanswered": 12.0},
            "failing since MORNING: no answer in time; 1 pending; relay tries again in 3s;"
            " ask whoever runs the destination why it does not answer",
        ),
        (
            False,
            FAILING | {"last_error": error("HTTP 503: busy", 503), "next_try": 12.0, "breaker": "open"},
            "failing since MORNING: HTTP 503: busy; 1 pending; relay tries again in 12s;"
            " the destination has to recover",
        ),
        (
            False,
            FAILING | {"last_error": error("HTTP 503: busy", 503), "next_try": 0.2, "breaker": "open"},
            "failing since MORNING: HTTP 503: busy; 1 pending; relay tries again in 1s; the destination has to recover",
        ),
        (
            False,
            FAILING | {"last_error": error("HTTP 429", 429)},
            "failing since MORNING: HTTP 429; 1 pending; relay tries again; lower rate in 60-heap.toml if it goes on",
        ),
        (
            False,
            FAILING | {"last_error": error("/srv/out: Read-only file system"), "writes": "/srv/out/x"},
            "failing since MORNING: /srv/out: Read-only file system; 1 pending; relay tries again;"
            " see path in 60-heap.toml, the rights and the room there, and ReadWritePaths= in the unit",
        ),
        (
            False,
            FAILING | {"last_error": error("/srv/x: its file system is full (1 MiB free)"), "writes": "/srv/x"},
            "failing since MORNING: /srv/x: its file system is full (1 MiB free); 1 pending; relay tries again;"
            " relay doctor says what takes it",
        ),
        (
            False,
            FAILING | {"last_error": error("no answer in time")},
            "failing since MORNING: no answer in time; 1 pending; relay tries again;"
            " ask whoever runs the destination why it does not answer",
        ),
        (
            False,
            FAILING | {"last_error": error("h:443: Connection refused")},
            "failing since MORNING: h:443: Connection refused; 1 pending; relay tries again;"
            " see if the destination in 60-heap.toml can be reached from here",
        ),
        (
            False,
            FAILING | {"last_error": error("bug in the connector: KeyError: 'x'")},
            "failing since MORNING: bug in the connector: KeyError: 'x'; 1 pending;"
            " the log has the whole error; relay plugins says where the connector comes from",
        ),
        (
            False,
            {"state": "broken", "last_error": error("Corrupt: bad record")},
            "stopped by an error of its own: Corrupt: bad record; nothing pending;"
            " relay starts it again; the log has the whole error",
        ),
        (
            False,
            {"pending": 500, "oldest_pending": NOON - 90, "drained_in": 100.0},
            "behind; 500 pending, the oldest for 1m 30s; drains in 1m 40s",
        ),
        (
            True,
            {"parked_now": 3, "last_error": error("HTTP 503", 503)},
            "working; nothing pending; 3 parked (relay parked list --connector heap)",
        ),
    ],
)
def test_a_lane_in_words(ok: bool, given: dict[str, Any], said: str) -> None:
    lane = a_lane(**given)
    assert written(describe_lane(lane, NOON)) == f"heap: {said}"
    assert diagnose(a_status(lanes=[lane])).ok is ok


def test_a_source_that_refuses_everything_in_words() -> None:
    refusing = Refusing(since=MORNING, status=401, reason="wrong bearer token", deadline=MORNING + 5 * 86400)
    source = a_source(refusing=refusing)
    assert written(describe_source(source, [], NOON)) == (
        "braze: has refused everything since MORNING: 401 wrong bearer token; events are lost: Braze does not send"
        " again what got 401 or 403; Braze disables the Current at 2027-01-20T10:02:00Z, after 5 days of errors;"
        " compare the credentials of the sender with those in 20-braze.toml"
    )
    secrets = ['token (file "/run/t"; connector heap uses it, too)']
    assert describe_source(replace(source, secrets=secrets), [], NOON).endswith(
        '; compare the credentials of the sender with token (file "/run/t"; connector heap uses it, too) in'
        " 20-braze.toml"
    )
    assert not diagnose(a_status(sources=[source])).ok
    assert describe_source(a_source(), [], NOON) == "braze: takes events, the last 2s ago"
    assert describe_source(a_source(last=None), [], NOON) == "braze: no events since the start"


@pytest.mark.parametrize(
    ("status", "deadline", "is_lost"),
    [(401, NOON, True), (403, NOON, True), (401, None, False), (400, NOON, False), (413, NOON, False)],
)
def test_what_braze_does_not_send_again_is_told(status: int, deadline: float | None, is_lost: bool) -> None:
    source = a_source(refusing=Refusing(since=MORNING, status=status, reason="no", deadline=deadline))
    said = describe_source(source, [], NOON)
    assert ("; events are lost: Braze does not send again what got 401 or 403" in said) is is_lost
    assert ("; later events are lost" in said) is (deadline is not None and not is_lost)


def test_what_lies_parked_is_told_and_is_no_failure() -> None:
    found = diagnose(a_status(sources=[a_source(parked_now=1200)], lanes=[a_lane(parked_now=2)]))
    assert found.ok
    assert (found.sources[0].parked, found.lanes[0].parked) == (1200, 2)
    assert found.sources[0].said == (
        "braze: takes events, the last 2s ago; 1,200 parked (relay parked list --source braze --cause unreadable)"
    )
    assert found.lanes[0].said.endswith("; 2 parked (relay parked list --connector heap)")


HOLDING = [a_lane(connector="archive", pending=1, oldest_pending=NOON - 9), a_lane(pending=9, oldest_pending=NOON - 30)]


@pytest.mark.parametrize(
    ("ok", "given", "said"),
    [
        (True, {}, "1% of what it may take is still needed"),
        (
            False,
            {"needed": 900, "full_in": 3600.0},
            "90% of what it may take is still needed; full in 1h 0m if it goes on like this; connector heap waits"
            " longest: repair heap, or raise journal.max_size in conf.d, then relay reload",
        ),
        (False, {"refusing": "disk full", "capacity": 1}, "takes no events: disk full"),
    ],
)
def test_the_journal_in_words(ok: bool, given: dict[str, Any], said: str) -> None:
    status = a_status()
    found = diagnose(replace(status, journal=replace(status.journal, **given), lanes=HOLDING))
    assert found.journal.said == f"journal: {said}"
    assert found.ok is ok


def test_a_full_journal_and_its_refusing_source_name_the_slow_connector() -> None:
    why = "the journal has reached its max_size and every event in it is still needed"
    refusing = Refusing(since=MORNING, status=503, reason=why, deadline=None)
    status = a_status(sources=[a_source(refusing=refusing)], lanes=HOLDING)
    relief = "; connector heap waits longest: repair heap, or raise journal.max_size in conf.d, then relay reload"
    for lanes, advice in ((HOLDING, relief), ([], "; raise journal.max_size in conf.d, then relay reload")):
        found = diagnose(replace(status, journal=replace(status.journal, refusing=why), lanes=lanes))
        assert found.journal.said == f"journal: takes no events: {why}{advice}"
        assert written(found.sources[0].said) == f"braze: has refused everything since MORNING: 503 {why}{advice}"
    full = replace(status, journal=replace(status.journal, needed=2 << 20, capacity=1 << 20))
    said = "journal: 100 B, 2.0 MiB still needed (whole segments), no room for more events, 10 events kept"
    assert said in format_screen(full)


def test_a_duration_in_its_two_largest_units() -> None:
    spans = {0.4: "0s", 59: "59s", 60: "1m 0s", 3599.7: "1h 0m", 7384: "2h 3m", 200_000: "2d 7h"}
    assert {seconds: format_span(seconds) for seconds in spans} == spans


@pytest.mark.parametrize(
    ("ok", "failing", "said"),
    [
        (
            True,
            FailingErasures("heap", 2, MORNING, "HTTP 503"),
            "heap: 2 erasures fail there, the oldest since MORNING: HTTP 503; relay tells it again"
            " (relay erasures list)",
        ),
        (
            False,
            FailingErasures("heap", 1, NOON - 86400, "HTTP 401: no"),
            "heap: 1 erasure fails there since 2027-01-14T12:00:00Z: HTTP 401: no; relay tells it again"
            " (relay erasures list)",
        ),
        (
            False,
            FailingErasures("gone", 1, NOON, "HTTP 503"),
            "gone: 1 erasure failed there: HTTP 503; it is not configured any more: add it back, or relay forget gone"
            " gives up",
        ),
        (
            False,
            FailingErasures(None, 3, MORNING, "bad record"),
            "erasures: 3 cannot be done in journal and tables: bad record; relay tries again, and"
            " withholds the users' events from connectors",
        ),
    ],
)
def test_erasures_that_fail_in_words(ok: bool, failing: FailingErasures, said: str) -> None:
    status = a_status(failing_erasures=[failing])
    found = diagnose(status)
    assert [written(one.said) for one in found.erasures] == [said]
    assert (found.ok, found.erasures[0].ok) == (ok, ok)
    assert said in map(written, format_screen(status))


def test_what_is_switched_off_is_not_told_to_be_removed() -> None:
    gone = [
        RemovedConnector(connector="off", pending=3, disabled=True),
        RemovedConnector(connector="gone", pending=3, later=1),
        RemovedConnector(connector="done", pending=0, later=1980),
        RemovedConnector(connector="new", pending=0),
    ]
    failing = [FailingErasures(name, 1, NOON, "HTTP 503") for name in ("off", "gone")]
    status = a_status(gone=gone, failing_erasures=failing)
    off, removed = (one.said for one in diagnose(status).erasures)
    assert "it is switched off: switch it on, or " in off
    assert "it is not configured any more: add it back, or " in removed
    shown = [line for line in format_screen(status) if "kept for" in line and "relay forget" in line]
    kept = "kept for journal.retention in case it is added back"
    assert shown == [
        f"off: switched off (enabled = false); 3 pending events {kept} (relay forget off lets go of it)",
        f"gone: not configured any more; 3 pending events and 1 newer event {kept} (relay forget gone lets go of it)",
        f"done: not configured any more; 1,980 newer events {kept} (relay forget done lets go of it)",
    ]


def test_a_worker_that_is_no_longer_wanted_says_what_it_waits_for() -> None:
    workers = [
        WorkerStatus(worker=number, away=False, started=NOON, memory=0, journal=None, only_drains=number > 0)
        for number in (0, 1)
    ]
    shown = "\n".join(format_screen(a_status(workers=workers)))
    assert "worker 1: ends when its events are delivered and its erasures are done, for runtime.workers is" in shown
    assert "worker 0: ends" not in shown


@pytest.mark.parametrize(
    ("damaged", "lost"),
    [(10, "heap has lost MOST10 events"), (0, "no connector has lost an event")],
)
@pytest.mark.parametrize("most", ["", "at most "])
def test_damage_says_who_has_lost_what_and_what_to_do(damaged: int, lost: str, most: str) -> None:
    lost = lost.replace("MOST", most)
    doubt = Doubt(worker=0, what="journal", said=f"{most}10 events cannot be read", is_damage=True)
    status = a_status(doubts=[doubt], lanes=[a_lane(outcomes={"damaged": damaged})])
    (one,) = find_conditions(status)
    assert one.sentence == f"journal: {lost}; {most}10 events cannot be read; {one.facts['do']}"
    assert one.facts["do"] == (
        "with a good copy of the file: stop relay, put the copy in its place, start relay, relay replay; without a"
        " copy: stop relay, relay journal repair, which brings no lost event back; relay accept journal ends this"
        " warning"
    )


def test_how_long_erasures_fail_is_a_metric_of_every_connector() -> None:
    failing = [FailingErasures(None, 1, NOON - 7, "no room"), FailingErasures("gone", 2, NOON - 9, "HTTP 401")]
    text = render_metrics(a_status(failing_erasures=failing)).decode()
    found = re.findall(r'^relay_deliver_failing_erasure_seconds\{connector="(\w*)"\} (.+)$', text, re.MULTILINE)
    assert dict(found) == {"": "7.0", "gone": "9.0", "heap": "0.0"}


@pytest.mark.parametrize("state", ["working", "refusing", "failing", "unauthorized", "paused", "broken"])
def test_each_state_of_a_lane_is_a_metric(state: str) -> None:
    text = render_metrics(a_status(lanes=[a_lane(state=state)])).decode()
    found = re.findall(r'^relay_deliver_lane_state\{connector="heap",state="(\w+)"\} (.+)$', text, re.MULTILINE)
    assert (len(found), [name for name, value in found if value == "1.0"]) == (6, [state])


@pytest.mark.parametrize(
    ("given", "drained"),
    [
        ({}, "37s"),
        ({"drained_in": None, "oldest_pending": NOON - 59}, "-"),
        ({"drained_in": None, "oldest_pending": NOON - 61}, "never"),
        ({"drained_in": None, "state": "failing", "since": MORNING}, "-"),
        ({"unanswered": 12.0}, "-"),
        ({"state": "paused", "since": MORNING}, "-"),
        ({"state": "unauthorized", "since": MORNING}, "-"),
    ],
)
def test_only_a_lane_that_moves_has_a_time_to_be_drained(given: dict[str, Any], drained: str) -> None:
    lines = format_screen(a_status(lanes=[a_lane(**{"pending": 5, "drained_in": 37.0} | given)]))
    row = next(line for line in lines if line.lstrip().startswith("heap "))
    assert row.split()[-3] == drained
    assert any("no answer yet for 12s" in line for line in lines) is ("unanswered" in given)


@pytest.mark.parametrize(
    ("state", "reason", "status", "advice"),
    [
        ("unauthorized", "HTTP 401", 401, "60-heap.toml sets no credentials: check the address, or set credentials"),
        ("unauthorized", "HTTP 308 to https://new.example/in", 308, "put the address that it redirects to into"),
        ("unauthorized", "HTTP 302: go to the login page", 302, "check the address in 60-heap.toml"),
        ("failing", "h:443: TLS: certificate has expired", None, "its certificate has to be renewed there"),
        ("failing", "h:443: TLS: self-signed certificate", None, "this machine does not know who signed"),
        (
            "failing",
            "h:443: TLS: unable to get local issuer certificate",
            None,
            "this machine does not know who signed its certificate: install that authority here",
        ),
        (
            "failing",
            "h:443: TLS: Hostname mismatch, certificate is not valid for 'h'.",
            None,
            "its certificate is for another host: check the address in 60-heap.toml",
        ),
        ("failing", "h:80: TLS: WRONG_VERSION_NUMBER", None, "it does not speak TLS there: check scheme and port in"),
        ("failing", "h:443: TLS: something new", None, "see to its certificate and TLS versions"),
        ("failing", "h:443: there is no such host: Name or service not known", None, "check the host in 60-heap.toml"),
        ("failing", "no answer in time", None, "ask whoever runs the destination why it does not answer"),
        ("failing", "not done in time, and the connector's thread hangs", None, "find out what it waits for: a disk"),
        ("failing", "bug in the connector: KeyError: 'a'", None, "relay plugins says where the connector comes from"),
        ("failing", "HTTP 429: slow down", 429, "lower rate in 60-heap.toml"),
        ("failing", "HTTP 503: busy", 503, "the destination has to recover"),
    ],
)
def test_the_advice_names_the_thing_at_hand(state: str, reason: str, status: int | None, advice: str) -> None:
    said = describe_lane(a_lane(state=state, since=MORNING, last_error=error(reason, status)), NOON)
    assert f"; {advice}" in said
    assert reason in said


def test_numbers_of_events_are_whole_on_the_screen() -> None:
    replay = ReplayStatus(number=1, connector="heap", settled=5, events=1200, rate=1234.6)
    status = a_status(sources=[a_source(rate=1234.6)], lanes=[a_lane(rate=1234.6)], replays=[replay])
    head, *lines = format_screen(status)
    assert "; 1,235 events/s; " in head
    assert "replay 1 to heap: 5 of 1,200 events, 1,235/s" in lines
    rows = [line.split() for line in lines if line.startswith(("braze ", "heap "))]
    assert ["1,235" in row for row in rows] == [True, True]


def test_a_long_reason_is_not_cut_in_mid_word() -> None:
    reason = "the destination closed the connection without an answer"
    lines = format_screen(a_status(lanes=[a_lane(last_error=error(reason))]))
    assert any(line.endswith("the destination closed the connection…, 0s ago") for line in lines), lines


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"last": None}, "no message yet"),
        ({}, "the last message was sent at MORNING"),
        ({"sent": False, "problem": "HTTP 500"}, "the last message was not sent at MORNING: HTTP 500"),
        (
            {"sent": False, "problem": "HTTP 500", "failing": MORNING, "waiting": 1},
            "sends nothing since MORNING: HTTP 500; 1 message waiting; "
            "see 80.toml; relay alerts test ops tries at once",
        ),
        (
            {"sent": False, "problem": "HTTP 500", "failing": MORNING},
            "sends nothing since MORNING: HTTP 500; see 80.toml; relay alerts test ops tries at once",
        ),
    ],
)
def test_an_alert_says_whether_its_last_message_was_sent(given: dict[str, Any], said: str) -> None:
    last = LastAlert(id="m", at=MORNING, sent=given.pop("sent", True), problem=given.pop("problem", ""))
    plain = {"waiting": 0, "sent": 0, "failed": 0, "given_up": 0, "failing": None, "last": last} | given
    alert = AlertStatus(alert="ops", type="fake", file="80.toml", told=[], **plain)
    assert written(describe_alert(alert, NOON)) == f"alert ops: {said}"


def test_the_row_of_a_lane_has_a_plain_state_and_no_rate_of_refused_events() -> None:
    refusing = a_lane(**REFUSING, breaker="half-open", rate=12.0)
    row = next(line for line in format_screen(a_status(lanes=[refusing])) if line.startswith("heap "))
    assert row.split() == ["heap", "refusing", "0", "-", "0", "-", "3", "-"]


@pytest.mark.parametrize(
    ("begins", "ends", "files", "said"),
    [
        (-90, 89, "/c.pem", "ends at 2027-04-14T12:00:00Z, in 89d 0h"),
        (-90, 1, "/c.pem and /k.pem", "ends at 2027-01-16T12:00:00Z, in 1d 0h; renew /c.pem and /k.pem"),
        (
            -90,
            -1,
            "/c.pem and /k.pem",
            "has expired, and senders refuse it: it is good from 2026-10-17T12:00:00Z to 2027-01-14T12:00:00Z;"
            " renew /c.pem and /k.pem; relay takes them within a minute; Braze disables a Current after 5 days"
            " of errors: at 2027-01-19T12:00:00Z",
        ),
        (
            1,
            2,
            "",
            "is not good yet, and senders refuse it: it is good from 2027-01-16T12:00:00Z to 2027-01-17T12:00:00Z;"
            " renew the files of ingest.tls; relay takes them within a minute; Braze disables a Current"
            " after 5 days of errors",
        ),
    ],
)
def test_a_certificate_says_which_files_to_renew_and_by_when(begins: int, ends: int, files: str, said: str) -> None:
    day = 86400
    one = CertificateStatus(certificate="ingest", begins=NOON + begins * day, ends=NOON + ends * day, files=files)
    assert describe_certificate(one, NOON) == f"certificate ingest: {said}"


def test_the_screen_has_a_word_for_connections_that_were_malformed() -> None:
    shown = ListenerStatus(connections=1, refused={"malformed": 144, "full": 1, "timeout": 0})
    lines = format_screen(a_status(listeners={"ingest": shown}))
    assert (
        "ingest: 145 connections refused or closed without a request: 144 that failed in TLS or spoke no HTTP, 1 full"
        " (the log may have more)"
    ) in lines
    shown = ListenerStatus(connections=1, refused={"malformed": 2, "full": 0})
    said = "ingest: 2 connections refused or closed without a request: 2 that failed in TLS or spoke no HTTP"
    assert said in format_screen(a_status(listeners={"ingest": shown})), "the log has nothing of these"


def test_problems_of_a_database_are_findings_and_one_condition() -> None:
    status = a_status(durability="on two disks", store_problems=("one: do", "two: do"))
    assert "an acknowledged event is on two disks" in format_screen(status)
    found = diagnose(status)
    assert [(one.ok, one.said) for one in found.nodes] == [(False, "database: one: do"), (False, "database: two: do")]
    conditions = [one for one in find_conditions(status) if one.kind == "database_troubled"]
    assert [(one.subject, one.sentence) for one in conditions] == [("database", "database: one: do; two: do")]
