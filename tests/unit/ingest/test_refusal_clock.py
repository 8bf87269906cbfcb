"""When the clock of a source that refuses everything is worth a write, and what its warnings say."""

from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from relay.api import Source, SourceSettings
from relay.ingest.refusal_clock import RefusalClock
from relay_plugins.currents import Currents
from relay_plugins.json_source import Json


class Watched:
    """A guard at a time of the test's choice, and how often it wanted to be saved."""

    def __init__(self, source: type[Source] = Currents) -> None:
        settings = source.Settings.model_validate({"type": source.type, "path": "/in"})
        assert isinstance(settings, SourceSettings)
        self.now, self.saves = 0.0, 0
        self.guard = RefusalClock(source("braze", settings), self._save, lambda: self.now)

    def _save(self) -> None:
        self.saves += 1

    def refuse(self, at: float, status: int = 503) -> None:
        self.now = at
        self.guard.note_refused(status, "no")


@pytest.mark.parametrize(
    ("refusals", "saves"),
    [
        ([0], 0),
        ([0, 10, 59.9], 0),
        ([0, 60], 1),
        ([0, 60, 61, 62, 119], 1),
        ([0, 60, 120, 121, 180], 3),
        ([0, 3600], 1),
        (range(600), 9),
    ],
)
def test_it_is_saved_once_a_minute_and_never_for_a_blip(refusals: Sequence[float], saves: int) -> None:
    watched = Watched()
    for moment in refusals:
        watched.refuse(moment)
    assert watched.saves == saves
    watched.guard.note_accepted()
    assert watched.saves == saves + bool(saves), "what was saved has to be taken back, and nothing else"
    watched.guard.note_accepted()
    assert watched.saves == saves + bool(saves)


@pytest.mark.parametrize(
    ("status", "advice"), [(401, "credentials"), (413, "max_body"), (503, "make room"), (400, "the reason")]
)
def test_a_warning_says_what_to_do(status: int, advice: str) -> None:
    watched = Watched()
    watched.refuse(0)
    with capture_logs() as logs:
        watched.refuse(30 * 3600, status)
    (line,) = logs
    assert (line["since"], line["hours"], line["status"]) == ("1970-01-01T00:00:00Z", 30.0, status)
    assert advice in line["advice"]
    assert "Braze disables the Current" in line["advice"]
    assert ("events are lost: " in line["advice"], "later events are lost" in line["advice"]) == (
        status == 401,
        status != 401,
    )


def test_no_deadline_is_told_where_none_is_known() -> None:
    watched = Watched(Json)
    watched.refuse(0)
    with capture_logs() as logs:
        watched.refuse(3600)
    assert "deadline" not in logs[0]
    assert "Braze" not in logs[0]["advice"]


def test_a_clock_that_is_set_back_does_no_harm() -> None:
    watched = Watched()
    with capture_logs() as logs:
        for moment in (1e6, 0, 1e6 + 61, 5):
            watched.refuse(moment)
        watched.guard.note_accepted()
    assert logs == []
