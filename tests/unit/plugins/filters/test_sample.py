from relay_plugins.filters import Sample
from tests.unit.plugins.filters.make import make


def kept(make_event, data, **settings):
    sample = make(Sample, **settings)
    return [number for number, item in enumerate(data) if sample.apply(make_event(item))]


def test_sample_keeps_all_or_nothing_of_a_user(make_event):
    users = [{"id": str(n), "user": {"user_id": f"u{n % 200}"}} for n in range(1000)]
    numbers = kept(make_event, users, rate=0.3)
    assert {n % 200 for n in numbers} == {n for n in numbers if n < 200}
    assert len(numbers) == 5 * len({n % 200 for n in numbers})
    assert numbers == kept(make_event, users, rate=0.3)
    assert 30 < len(numbers) / 5 < 90
    assert set(numbers) <= set(kept(make_event, users, rate=0.5))


def test_sample_by_seed_by_another_key_and_without_a_key(make_event):
    events = [{"id": str(n), "p": {"k": n}, "user": {}} for n in range(300)]
    by_id = kept(make_event, events, rate=0.5)
    assert 0 < len(by_id) < 300
    assert by_id != kept(make_event, events, rate=0.5, seed="b")
    assert by_id == kept(make_event, events, rate=0.5, key="p.k")
    assert kept(make_event, events, rate=0) == []
    assert len(kept(make_event, events, rate=1)) == 300
