"""Which node announces what is wrong, as partition 0 moves."""

import msgspec

from relay.alerts import Alerts
from relay.config import Config
from relay.runtime.announcer import Announcer
from relay.runtime.condition_watch import ConditionWatch
from relay.runtime.history_writer import History
from relay.store import JournalLimits
from tests.toy_store.shared import ToyWorld
from tests.toy_store.store import ToyStore
from tests.unit.status.statuses import a_status


async def test_the_last_node_announces_until_another_has_the_first_partition() -> None:
    world = ToyWorld()
    store, watch = ToyStore(2, world), ConditionWatch()
    log, state = store.open(0, JournalLimits(64 << 20, 3600), 1 << 20)
    await state.save({}, 0)
    await log.close()
    state.close()
    store.join(0).report(msgspec.json.encode(a_status(partitions=[1])), {})
    announcer = Announcer(store, Alerts(store.alerts), watch, History(store, Config, watch), Config)
    assert await announcer.choose(a_status(partitions=[1])) is None
    assert await announcer.choose(a_status(partitions=[0, 1])) is not None
    whole = await announcer.choose(a_status(partitions=[1]))
    assert whole is not None
    assert whole.waiting_partitions == [0]
    world.elsewhere = [0]
    assert await announcer.choose(a_status(partitions=[1])) is None
    assert not announcer.announces
