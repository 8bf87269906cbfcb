"""Two versions of relay share the partitions of a journal in PostgreSQL while one relay after the other is upgraded.

The newer version is made of the present version: it has another number, a table more, and a column more in each table.
"""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import relay
from tests.forks import Forks
from tests.postgres import NEWER_TABLES, start_shared_server
from tests.process.cluster import Cluster, Node, Numbered, send_round

pytestmark = pytest.mark.slow
OLD, NEW = relay.__version__, "99.0.0"


def make_newer(folder: Path) -> list[str]:
    """Make the newer version; return the command that runs it when an interpreter follows."""
    package = folder / "relay"
    shutil.copytree(Path(relay.__file__).parent, package)
    for name, old, new in (
        ("__init__.py", f'"{OLD}"', f'"{NEW}"'),
        ("postgres/schema.py", "VERSION: Final = 1", "VERSION: Final = 2"),
        ("postgres/schema.py", "UPGRADES: Final[Mapping[int, str]] = {}", f"UPGRADES = {{2: {NEWER_TABLES!r}}}"),
    ):
        text = (package / name).read_text()
        assert old in text, name
        (package / name).write_text(text.replace(old, new))
    return ["env", "PYTHONSAFEPATH=1", f"PYTHONPATH={folder}"]


async def move(cluster: Cluster, node: Node, wrapper: list[str]) -> None:
    """Restart a node with another version, and wait until events arrive that came in later."""
    assert await node.stop() == 0
    node.wrapper = wrapper
    await node.start()
    await cluster.until_shared()
    before = len(cluster.destination.arrived)
    await cluster.until("events arrive", lambda: len(cluster.destination.arrived) > before + 50)


@pytest.mark.long  # quicker: test_cluster, and test_postgres_store in tests/unit/postgres
async def test_relays_are_upgraded_one_by_one_under_load_and_back(tmp_path: Path, relay_forks: Forks) -> None:
    newer = make_newer(tmp_path / "newer")
    async with Numbered() as destination:
        cluster = Cluster(tmp_path, relay_forks, destination, 4, start_shared_server())
        await cluster.start("a", "b")
        a, b = cluster.nodes.values()

        def read_versions() -> dict[str, str]:
            return {one.node: one.version for one in cluster.read_status("b").nodes}

        async with send_round(cluster):
            init = [*newer, sys.executable, "-m", "relay", "journal", "init", "--conf", str(a.conf)]
            done = await asyncio.to_thread(subprocess.run, init, check=False, capture_output=True)
            assert done.stdout + done.stderr == b"brought the tables from version 1 to 2\n"
            await move(cluster, a, newer)
            await cluster.until("both versions are named", lambda: read_versions() == {"a": NEW, "b": OLD})
            assert f" {NEW} " in (await b.run("status")).stdout.decode()
            await move(cluster, b, newer)
            await move(cluster, a, [])
            await cluster.until("both versions are named", lambda: read_versions() == {"a": OLD, "b": NEW})
        assert (a.list_complaints(), b.list_complaints()) == ([], [])
        await a.stop()
        with cluster.database.use() as db:
            db.run("UPDATE $.cluster SET oldest = 2")
        await a.launch()
        assert await a.ended() != 0
        assert "install the newer relay here, too" in a.stderr[-1]
        await cluster.end()
