"""What a journal in PostgreSQL costs against the embedded one, and what a second node brings: the cases take turns.

`make bench-cluster`. All that runs shares this machine: sender, destination, relays, and the server with its disk. So
two nodes show what a second node costs, and not what a second machine brings.
"""

import argparse
import asyncio
import shutil
import statistics
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from cases import MAIN
from daemon import SOURCE_PATH, TOKEN, Daemon, process_cpu, running, tree, until
from figures import Results, milliseconds, summary
from machine import Noise
from measure import free_port
from worker import Worker, working

from tests.postgres.server import Server, find_user, run_server

BATCHES: Final = (100, 10, 1)
NODES: Final = {"embedded": 0, "one node": 1, "two nodes": 2}
"""Relays with the journal in PostgreSQL, by case. 0: one relay with the embedded journal."""
RATIOS: Final = (("one node", "embedded"), ("two nodes", "one node"))
PARTITIONS: Final = 4
FAR: Final = 1_000_000
"""The number of the first event for the second node."""
WARM_UP_S: Final = 1.0
SERVER: Final = {"shared_buffers": "256MB", "autovacuum": "on", "max_wal_size": "1GB"}
"""Settings of the server, and `fsync` as it is by default."""
JOURNAL: Final = """
[journal]
backend = "postgres"
dsn = {{ file = "{dsn}" }}
schema = {schema}
node = "node-{node}"
partitions = {partitions}
compress = "zstd"
"""
BLOCKS: Final = """
    SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class
    WHERE relnamespace = '{schema}'::regnamespace AND relkind = 'r' AND relname ~ '^block_'
"""


async def measure(nodes: int, batch: int, seconds: float, place: Path, server: Server) -> dict[str, float]:
    """Run a case once. Raises what goes wrong on the way, TimeoutError among it."""
    port, noise = free_port(), Noise()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="relay-bench-", dir=place)))
        destination = await stack.enter_async_context(working("destination.py", str(port)))
        relays, schema = await stack.enter_async_context(run_relays(nodes, folder, port, server))
        figures = await load(relays, batch, seconds, destination, server)
        if schema:
            ((size,),) = server.execute(BLOCKS.format(schema=schema))
            figures["table_bytes"] = int(str(size)) / figures["stored"]
    if schema:
        server.execute(f"DROP SCHEMA {schema} CASCADE")
    return figures | noise.measured()


@asynccontextmanager
async def run_relays(
    nodes: int, folder: Path, port: int, server: Server
) -> AsyncIterator[tuple[Sequence[Daemon], str]]:
    """Run the relays of a case for the body; yield them and their schema, "" for the embedded journal."""
    if not nodes:
        async with running(folder, MAIN, port) as daemon:
            yield [daemon], ""
        return
    database = server.make_database(PARTITIONS)
    database.close()
    dsn = folder / "dsn"
    dsn.write_text(server.dsn)
    dsn.chmod(0o600)
    async with AsyncExitStack() as stack:
        daemons = []
        for node in range(nodes):
            (own := folder / f"node-{node}").mkdir()
            journal = JOURNAL.format(dsn=dsn, schema=database.schema, node=node, partitions=PARTITIONS)
            daemons.append(await stack.enter_async_context(running(own, MAIN + journal, port)))
        yield daemons, database.schema


async def load(
    relays: Sequence[Daemon], batch: int, seconds: float, destination: Worker, server: Server
) -> dict[str, float]:
    """Send to all relays at once, as fast as it goes, and wait until everything has arrived."""
    async with AsyncExitStack() as stack:
        senders = [
            await stack.enter_async_context(working("sender.py", one.address, SOURCE_PATH, TOKEN, str(batch)))
            for one in relays
        ]
        warm = await send(senders, [place * FAR for place in range(len(senders))], WARM_UP_S)
        await arrive(destination, sum(one["events"] for one in warm))
        cpu = [sum(one.cpu() for one in relays), sum_cpu(server), await destination.ask(do="cpu")]
        wal = read_wal(server)
        sent = await send(senders, [place * FAR + one["events"] for place, one in enumerate(warm)], seconds)
        stored = sum(one["events"] for one in [*warm, *sent])
        await arrive(destination, stored)
        cpu_after = [sum(one.cpu() for one in relays), sum_cpu(server), await destination.ask(do="cpu")]
        (books,) = await destination.ask(do="account", paths=["/main"], events=FAR * len(senders))
    events = sum(one["events"] for one in sent)
    relay_us, server_us, destination_us = (
        (now - then) / events * 1e6 for now, then in zip(cpu_after, cpu, strict=True)
    )
    return {
        "accepted_per_s": events / max(one["seconds"] for one in sent),
        "delivered_per_s": events / (books["last"] - min(one["begin"] for one in sent)),
        "cpu_us": relay_us,
        "server_us": server_us,
        "load_us": destination_us + sum(one["cpu_s"] for one in sent) / events * 1e6,
        "wal_bytes": (read_wal(server) - wal) / events,
        "stored": stored,
        "refused": sum(one["refused"] for one in sent),
        "lost": books["lost"] - (FAR * len(senders) - stored),
        "duplicates": books["duplicates"],
        **milliseconds("ack", [took for one in sent for took in one["ack_s"]]),
    }


async def send(senders: Sequence[Worker], first: Sequence[int], seconds: float) -> Sequence[dict[str, Any]]:
    """Have all senders send at once, each from a number of its own on."""
    asked = (
        sender.ask(first=number, seconds=seconds, rate=0, max_events=FAR // 2)
        for sender, number in zip(senders, first, strict=True)
    )
    return [*await asyncio.gather(*asked)]


async def arrive(destination: Worker, events: int) -> None:
    """Wait until so many events have arrived."""

    async def is_there() -> bool:
        return int(await destination.ask(do="count", path="/main")) >= events

    await until(is_there)


def sum_cpu(server: Server) -> float:
    """Return the CPU seconds of the server and of all its processes."""
    return sum(map(process_cpu, tree(server.pid)))


def read_wal(server: Server) -> int:
    """Return how many bytes of write-ahead log there have been."""
    ((position,),) = server.execute("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")
    return int(str(position))


def render(runs: dict[str, list[dict[str, float]]]) -> str:
    """Return all tables: medians of the rounds, in brackets the least and the most."""
    results, lines = Results(runs), []
    heads: Sequence[str] = (
        "", "acks/s", "delivered/s", "CPU µs/event of relay", "of the server", "of the load", "ack p50 / p99 ms",
        "bytes/event in WAL", "in tables", "lost", "duplicates",
    )  # fmt: skip
    lines += [row(heads), row(["---", *["---:"] * (len(heads) - 1)])]
    for name, found in runs.items():
        one = summary(found)
        middle = {figure: value["median"] for figure, value in one.items() if isinstance(value, dict)}
        batch = int(name.split()[-1])
        lines.append(
            row((
                name, f"{middle['accepted_per_s'] / batch:,.0f}", f"{middle['delivered_per_s']:,.0f}",
                f"{middle['cpu_us']:.1f}", f"{middle['server_us']:.1f}", f"{middle['load_us']:.1f}",
                f"{middle['ack_p50_ms']:.1f} / {middle['ack_p99_ms']:.1f}", f"{middle['wal_bytes']:,.0f}",
                f"{middle['table_bytes']:,.0f}" if "table_bytes" in middle else "", f"{one['lost']}",
                f"{one['duplicates']}",
            ))
        )  # fmt: skip
    heads = ("within a round", "delivered/s", "CPU of relay", "CPU of relay more, µs/event", "ack p50")
    lines += ["", row(heads), row(["---", *["---:"] * (len(heads) - 1)])]
    for mine, base in RATIOS:
        for batch in BATCHES:
            pair = f"{mine}, {batch}", f"{base}, {batch}"
            if not results.ratios(*pair):
                continue
            told = [f"{mine} to {base}, {batch}"]
            told += [spread(results.ratios(*pair, figure), ".2f") for figure in ("delivered_per_s", "cpu_us")]
            told += [spread(results.differences(*pair), "+.1f"), spread(results.ratios(*pair, "ack_p50_ms"), ".2f")]
            lines.append(row(told))
    every = [run for found in runs.values() for run in found]
    noise = {"a fixed loop, ms": "loop_ms", "CPUs of other processes": "others", "taken by the hypervisor": "steal"}
    lines += ["", *(f"{said}: {spread([run[name] for run in every], '.2f')}" for said, name in noise.items())]
    return "\n".join(lines)


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def spread(values: Sequence[float], form: str) -> str:
    """Return the median, and in brackets the least and the most."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def main() -> int:
    """Measure in turns and print; return 1 if an accepted event did not arrive."""
    parser = argparse.ArgumentParser(prog="python tests/bench/cluster.py", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="5")
    parser.add_argument("--seconds", type=float, default=3.0, metavar="N", help="of each run: 3")
    parser.add_argument("--only", default="", metavar="TEXT", help="the cases whose name holds TEXT, and no other")
    parser.add_argument("--state", type=Path, default=Path("/var/tmp"), metavar="DIR", help="a folder on a real disk")
    given = parser.parse_args()
    runs = defaultdict[str, list[dict[str, float]]](list)
    with TemporaryDirectory(prefix="relay-bench-postgres-", dir=given.state) as folder:
        shutil.chown(folder, find_user())
        with run_server(Path(folder), **SERVER) as server:
            for number in range(1, given.rounds + 1):
                for batch in BATCHES:
                    for name, nodes in NODES.items():
                        if given.only not in (case := f"{name}, {batch}"):
                            continue
                        print(f"round {number}: {case}", file=sys.stderr)
                        found = asyncio.run(measure(nodes, batch, given.seconds, given.state, server))
                        runs[case].append({**found, "round": number})
    print(render(runs))
    return int(any(run["lost"] for found in runs.values() for run in found))


if __name__ == "__main__":
    sys.exit(main())
