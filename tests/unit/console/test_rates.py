"""The rates of the last hour, from the counts of the status."""

from msgspec.structs import replace

from relay.console.rates import POINTS, RateHistory, RatePoint
from tests.unit.status.statuses import NOON, a_lane, a_source, a_status


def add(history: RateHistory, after: float, accepted: int, delivered: int) -> None:
    lanes = [a_lane(outcomes={"delivered": delivered})]
    history.add(a_status(now=NOON + after, sources=[replace(a_source(), accepted=accepted)], lanes=lanes))


def test_rates_come_from_the_counts_of_ten_seconds() -> None:
    history = RateHistory()
    for after, accepted in ((0, 100), (4, 140), (10, 200), (12, 200), (20, 200)):
        add(history, after, accepted, accepted // 2)
    assert [*history.points] == [RatePoint(NOON + 10, 10.0, 5.0), RatePoint(NOON + 20, 0.0, 0.0)]


def test_a_restart_of_relay_makes_no_negative_rate() -> None:
    history = RateHistory()
    for after, accepted in ((0, 100), (10, 5), (20, 25)):
        add(history, after, accepted, 0)
    assert [point.accepted for point in history.points] == [2.0]


def test_the_history_has_an_hour_and_its_averages() -> None:
    history = RateHistory()
    for number in range(POINTS + 50):
        add(history, number * 10, number * 10, 0)
    assert len(history.points) == POINTS
    averages = history.average(300)
    assert {round(one.accepted, 3) for one in averages} == {1.0}
    assert [one.at for one in averages] == sorted((one.at for one in averages), reverse=True)
    assert 12 <= len(averages) <= 13
