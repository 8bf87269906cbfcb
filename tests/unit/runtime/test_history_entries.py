"""What a look adds to the history: one entry for a change, and counts."""

from typing import Any

import pytest
from msgspec.structs import replace

from relay.runtime.condition_watch import ConditionSnapshot, ConditionWatch
from relay.runtime.history_entries import MOST, HistoryEntries
from relay.status.model import CertificateStatus, LastError, Refusing, Status, WorkerStatus
from relay.store import Doubt, Entry
from tests.unit.status.statuses import NOON, a_lane, a_source, a_status

HOUR = 3600.0
ERROR = LastError(at=NOON, reason="HTTP 503: busy", status=503)


class Told:
    """The entries of statuses one after the other."""

    def __init__(self) -> None:
        self.entries, self.found = HistoryEntries(), list[Entry]()
        self.watch = ConditionWatch([self._look])

    def _look(self, look: ConditionSnapshot) -> None:
        self.found += self.entries.find(look)

    def see(self, at: float, status: Status | None = None, **lane: Any) -> list[Entry]:
        """What a look at `at` seconds after noon adds."""
        before = len(self.found)
        self.watch.check(replace(status or a_status(lanes=[a_lane(**lane)]), now=NOON + at))
        return self.found[before:]

    def kinds(self, at: float, status: Status | None = None, **lane: Any) -> list[str]:
        return [one.kind for one in self.see(at, status, **lane)]


def test_a_connector_is_told_once_for_each_state() -> None:
    told = Told()
    assert told.kinds(0) == []
    (failing,) = told.see(5, state="failing", since=NOON + 1, last_error=ERROR, pending=3)
    assert (failing.kind, failing.subject, failing.by) == ("failing", "connector heap", "")
    assert failing.sentence.startswith("heap: failing since 2027-01-15T12:00:01Z: HTTP 503: busy; 3 pending")
    assert failing.about["pending"] == 3
    assert told.kinds(10, state="failing", since=NOON + 1, last_error=ERROR, pending=900) == []
    assert told.kinds(15, state="broken") == ["broken"]
    assert told.kinds(20, state="broken") == []
    (well,) = told.see(80)
    assert (well.kind, well.sentence) == ("recovered", "heap: well again, after 1m 19s")
    assert told.kinds(85) == []


def test_a_connector_away_during_a_reload_does_not_count_as_recovered() -> None:
    told = Told()
    assert told.kinds(0, state="failing") == ["failing"]
    assert told.kinds(5, a_status(lanes=[])) == []
    assert told.kinds(10, state="failing") == []
    assert told.kinds(15, a_status(lanes=[])) == []
    assert told.kinds(20) == ["recovered"]


def test_a_pause_is_told_by_whoever_pauses_and_hides_no_recovery() -> None:
    told = Told()
    assert told.kinds(0, state="failing") == ["failing"]
    assert told.kinds(5, state="paused") == []
    assert told.kinds(10, state="failing") == []
    assert told.kinds(15, state="paused") == []
    assert told.kinds(20) == ["recovered"]
    assert told.kinds(25, state="paused") == []
    assert told.kinds(30) == []


def test_a_pause_that_ends_by_itself_is_told_and_no_other() -> None:
    told = Told()
    assert told.kinds(0, state="paused", paused_until=NOON + 5) == []
    (over,) = told.see(6)
    assert (over.kind, over.sentence) == ("resumed", "heap goes on: its pause is over")
    for until in (None, NOON + 100):
        assert told.kinds(10, state="paused", paused_until=until) == []
        assert told.kinds(20) == []


def test_a_connector_that_comes_and_goes_does_not_push_all_else_out() -> None:
    told = Told()
    for second in range(600):
        told.see(second * 5, state="failing" if second % 2 else "working")
    assert len(told.found) == MOST
    assert told.kinds(3500, state="failing") == []
    (later,) = told.see(3700, state="failing")  # what it has come to is told in the end
    assert (later.kind, later.about["left_out"]) == ("failing", 592)
    assert later.sentence.endswith("; 592 changes before that are left out")


def test_a_source_that_refuses_is_told_at_once_and_after_1_24_and_72_hours() -> None:
    told, refusing = Told(), Refusing(since=NOON, status=401, reason="wrong token", deadline=NOON + 120 * HOUR)
    bad = a_status(sources=[a_source(refusing=refusing)])
    found = [told.kinds(hours * HOUR, bad) for hours in (0, 0.5, 1, 2, 23.9, 24, 71, 72, 100)]
    once: list[str] = ["source_refusing"]
    assert found == [once, [], once, [], [], once, [], once, []]
    assert [one.about.get("hours") for one in told.found] == [None, 1, 24, 72]
    assert told.kinds(101 * HOUR, a_status()) == ["source_recovered"]
    again, worse = Told(), a_status(sources=[a_source(refusing=replace(refusing, since=NOON - 30 * HOUR))])
    again.entries.remember(told.found[:3])  # after a restart
    assert [again.kinds(at, worse) for at in (0, 41 * HOUR, 42 * HOUR)] == [[], [], ["source_refusing"]]
    well = Told()
    well.entries.remember(told.found[:1])
    assert well.kinds(0, a_status()) == ["source_recovered"]
    short = Told()
    assert [short.kinds(at, seen) for at, seen in ((60, bad), (180, a_status()))] == [once, ["source_recovered"]]
    assert short.found[-1].sentence == "braze: well again, after 3m 0s"


def test_events_are_counted_at_once_and_then_once_an_hour() -> None:
    told, ever = Told(), {"delivered": 5, "expired": 7}
    assert told.see(0, parked=0, outcomes=ever) == []
    (first,) = told.see(5, parked=3, outcomes=ever)
    assert (first.kind, first.sentence, first.about) == ("parked", "heap: 3 events parked", {"number": 3})
    assert told.see(10, parked=10, outcomes=ever) == []
    assert told.kinds(20, parked=10, outcomes=ever | {"expired": 9}) == ["expired"]
    (more,) = told.see(HOUR + 10, parked=1_010, outcomes=ever | {"expired": 9})
    assert (more.sentence, more.about) == ("heap: 1,007 events parked (in the last 1h 0m)", {"number": 1_007})
    assert told.see(3 * HOUR, parked=1_010, outcomes=ever | {"expired": 9}) == []
    told.see(3 * HOUR + 5, parked=1_011, outcomes=ever | {"expired": 9})
    told.see(3 * HOUR + 9, parked=1_013, outcomes=ever | {"expired": 9})
    assert [one.about for one in told.entries.make_counts(NOON + 3 * HOUR + 9, all_of_them=True)] == [{"number": 2}]
    assert told.see(4 * HOUR, a_status(sources=[a_source(unreadable=2)]))[-1].subject == "source braze"


def test_damaged_events_are_counted_apart_from_expired_ones() -> None:
    told = Told()
    assert told.see(0, outcomes={"expired": 1, "damaged": 1}) == []
    expired, damaged = told.see(5, outcomes={"expired": 2, "damaged": 4})
    assert (expired.kind, damaged.kind, damaged.about) == ("expired", "damaged", {"number": 3})
    assert damaged.sentence == "heap: 3 events lost: the journal cannot be read there"


def test_a_worker_that_was_back_before_anybody_looked_is_told() -> None:
    told, journal = Told(), a_status().journal
    one = WorkerStatus(worker=1, away=False, started=NOON, memory=0, journal=journal)
    assert told.kinds(0, a_status(workers=[one])) == []
    assert told.kinds(5, a_status(workers=[replace(one, started=NOON + 3)])) == ["worker_lost", "worker_recovered"]
    assert told.kinds(10, a_status(workers=[replace(one, started=NOON + 3, away=True)])) == ["worker_lost"]
    assert told.kinds(15, a_status(workers=[replace(one, started=NOON + 12)])) == ["worker_recovered"]


def test_a_certificate_ends_and_is_renewed() -> None:
    told, day = Told(), 86400.0
    shown = [CertificateStatus(certificate="ingest", begins=0, ends=NOON + days * day) for days in (90, 1, -1, 90)]
    found = [told.kinds(at, a_status(certificates=[one])) for at, one in enumerate(shown)]
    assert found == [[], ["certificate_expiring"], ["certificate_expired"], ["certificate_renewed"]]


def test_the_journal_fills_up_and_has_room_again() -> None:
    told, journal = Told(), a_status().journal
    filling = replace(journal, needed=900)
    full = replace(journal, needed=1000, refusing="the journal is full")
    found = [told.kinds(at, a_status(journal=one)) for at, one in enumerate((journal, filling, full, filling, journal))]
    assert found == [[], ["journal_filling"], ["journal_full"], ["journal_filling"], ["journal_recovered"]]


def test_what_ends_of_a_journal_says_what_it_was() -> None:
    told = Told()
    both = [Doubt(worker=0, what="journal", said="lost", is_damage=damage) for damage in (True, False)]
    assert sorted(told.kinds(0, replace(a_status(), doubts=both))) == ["damaged", "doubt"]
    assert sorted(one.sentence for one in told.see(60, a_status())) == [
        "journal: its damage is accepted or repaired, after 1m 0s",
        "journal: nothing is in doubt any more, after 1m 0s",
    ]


@pytest.mark.parametrize("most", ["", "at most "])
def test_lost_events_are_a_bound_where_the_journal_has_a_bound(most: str) -> None:
    told = Told()
    doubt = Doubt(worker=0, what="journal", said=f"{most}5 events cannot be read", is_damage=True)
    told.see(0, a_status(doubts=[doubt], lanes=[a_lane(outcomes={"damaged": 0})]))
    found = told.see(5, a_status(doubts=[doubt], lanes=[a_lane(outcomes={"damaged": 5})]))
    assert f"heap: {most}5 events lost: the journal cannot be read there" in [one.sentence for one in found]
