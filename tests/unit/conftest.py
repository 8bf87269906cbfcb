from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.admin.shown_daemon import Bench


@pytest.fixture
async def bench(tmp_path: Path, forked_reader: None) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    await bench.admin.start()
    yield bench
    await bench.admin.stop()
    bench.state.close()
