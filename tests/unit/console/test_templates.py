"""What pages say of times, old figures and foreign texts."""

import time

import pytest

pytest.importorskip("jinja2", reason="the console takes the package currents-relay[console]")

from jinja2 import UndefinedError

from relay.console.pages.connector import find_bound
from relay.console.relay_view import STALE_S, StatusSnapshot
from relay.console.templates import Templates, mark_code, split_subject
from relay.histogram import QUICK, SLOW, Histogram
from tests.unit.status.statuses import a_status


def freshen(age: float, problem: str = "") -> str:
    return Templates().render("freshness.html", snapshot=StatusSnapshot(a_status(), time.time() - age, problem))


def test_figures_are_old_after_ten_seconds_without_an_answer() -> None:
    assert "does not answer" not in freshen(STALE_S - 1, "it is busy")
    assert "relay does not answer: it is busy. All figures below are of <time" in freshen(STALE_S + 1, "it is busy")
    assert "relay does not answer: no answer has come" in freshen(STALE_S + 1)


def test_an_unknown_name_in_a_template_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        Templates().render("freshness.html")


def test_a_description_is_text_with_code_between_backticks() -> None:
    said = mark_code("Writes `{ a = 1 }`,\n<b>\u202eand `b")
    assert said == "Writes <code>{ a = 1 }</code>, &lt;b&gt;\\u202eand `b"


@pytest.mark.parametrize(
    ("said", "label", "subject", "rest"),
    [
        ("is missing", "name", "name", " is missing"),
        ("endpoint is missing: the URL", "endpoint", "endpoint", " is missing: the URL"),
        ("batch.events: 250 at most", "batch", "batch", ".events: 250 at most"),
        ("must be at least 1", "retry.max", "retry.max", " must be at least 1"),
        ("grows without limit", "path", "path", " grows without limit"),
        ("expected a number", "rate", "", "expected a number"),
        ("names are too long", "name", "", "names are too long"),
    ],
)
def test_a_sentence_about_a_setting_has_its_subject_once(said: str, label: str, subject: str, rest: str) -> None:
    assert split_subject(said, label) == (subject, rest)


@pytest.mark.parametrize(
    ("times", "share", "said"),
    [
        (Histogram(QUICK), 0.5, "-"),
        (Histogram(QUICK, [0] * 4 + [98, 1] + [0] * 8 + [1]), 0.5, "up to 10 ms"),
        (Histogram(QUICK, [0] * 4 + [98, 1] + [0] * 8 + [1]), 0.99, "up to 25 ms"),
        (Histogram(QUICK, [0] * 14 + [1]), 0.99, "over 10s"),
        (Histogram(SLOW, [0] * 12 + [3] + [0] * 3), 0.99, "up to 1h 0m"),
    ],
)
def test_a_percentile_is_a_bound_of_the_histogram(times: Histogram, share: float, said: str) -> None:
    assert find_bound(times, share) == said
