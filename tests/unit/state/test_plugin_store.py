"""The stores of connectors: what every store promises, and the files of those that are on disk."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.api import KeyValueStore, StoreError
from relay.api.internal import KEY_BYTES, VALUE_BYTES
from relay.postgres.connection import Database
from relay.postgres.state.plugin_store import StoreTable
from relay.state import plugin_store
from relay.state.plugin_store import STORES, EmbeddedStores, StoreFile, remove_stores
from relay.testing import MemoryStore
from tests.postgres import start_shared_server

Made = Callable[[], KeyValueStore]


def make_store(engine: str, folder: Path) -> KeyValueStore:
    if engine == "postgres":
        return StoreTable(start_shared_server().make_database(), 0, "", "crm", "mine")
    return StoreFile(folder, "crm", "mine") if engine == "embedded" else MemoryStore()


@pytest.fixture(params=["embedded", "memory", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made = make_store(request.param, tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def embedded(tmp_path: Path) -> Any:
    made = StoreFile(tmp_path, "crm", "mine")
    yield made
    await made.close()


async def read_all(store: KeyValueStore, prefix: bytes = b"", limit: int = 1000) -> list[tuple[bytes, bytes]]:
    found, after = list[tuple[bytes, bytes]](), b""
    while page := await store.scan(prefix, after=after, limit=limit):
        assert len(page) <= limit
        found += page
        after = page[-1][0]
    return found


def files_with(text: bytes, folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and text in path.read_bytes()]


def connection_of(store: StoreFile) -> sqlite3.Connection:
    assert store._opened is not None
    assert store._opened[1]._db is not None
    return store._opened[1]._db


# What every store promises


async def test_get_returns_the_values_of_those_that_are_there(store: KeyValueStore) -> None:
    pairs = {b"%d" % number: b"value %d" % number for number in range(1500)}
    await store.write(pairs)
    assert await store.get([*pairs, b"none", b"7", b"7"]) == pairs
    assert await store.get([]) == {}
    assert await store.get(iter([b"1"])) == {b"1": b"value 1"}


async def test_a_write_puts_replaces_and_deletes_at_once(store: KeyValueStore) -> None:
    await store.write({b"a": b"1", b"b": b"2", b"empty": b""})
    await store.write({b"a": b"3", b"c": b"4"}, [b"b", b"never there"])
    await store.write()
    assert await read_all(store) == [(b"a", b"3"), (b"c", b"4"), (b"empty", b"")]


@pytest.mark.parametrize(
    ("puts", "deletes", "reason"),
    [
        ({b"a": b"1", b"b": b"2"}, [b"b"], "both put and deleted"),
        ({b"a": b"1", b"": b"2"}, [], "a key has 1 to 32,768 bytes, not 0"),
        ({b"a": b"1", b"k" * (KEY_BYTES + 1): b"2"}, [], "not 32,769"),
        ({b"a": b"1", b"b": b"v" * (VALUE_BYTES + 1)}, [], "a value has 1,048,576 bytes at most, not 1,048,577"),
    ],
)
async def test_a_write_beyond_the_limits_changes_nothing(
    store: KeyValueStore, puts: dict[bytes, bytes], deletes: list[bytes], reason: str
) -> None:
    await store.write({b"b": b"before"})
    with pytest.raises(ValueError, match=reason):
        await store.write(puts, deletes)
    assert await read_all(store) == [(b"b", b"before")]


async def test_the_longest_key_and_value_are_kept(store: KeyValueStore) -> None:
    longest = {b"\xff" * KEY_BYTES: b"v" * VALUE_BYTES}
    await store.write(longest)
    assert await store.get(longest) == longest
    assert await read_all(store, b"\xff") == [*longest.items()]


async def test_scan_returns_the_keys_of_a_prefix_in_order(store: KeyValueStore) -> None:
    keys = [b"", b"a", b"a\x00", b"a\x00\xff", b"a\x01", b"a\xfe", b"a\xff", b"a\xff\x00", b"a\xff\xff", b"b", b"\xff"]
    keys += [b"\xff\x00", b"\xff\xff", b"\xff\xff\xff"]
    await store.write({key: b"" for key in reversed(keys) if key})
    for prefix in keys:
        expected = sorted(key for key in keys if key and key.startswith(prefix))
        for limit in (1, 3, 1000):
            assert [key for key, _ in await read_all(store, prefix, limit)] == expected, (prefix, limit)


async def test_scan_goes_on_behind_any_key(store: KeyValueStore) -> None:
    await store.write({b"a1": b"", b"a3": b"", b"a30": b"", b"b": b""})
    found = [[key for key, _ in await store.scan(b"a", after=after)] for after in (b"a", b"a1", b"a2", b"a3", b"a\xff")]
    assert found == [[b"a1", b"a3", b"a30"], [b"a3", b"a30"], [b"a3", b"a30"], [b"a30"], []]
    assert await store.scan(b"b", after=b"a") == [(b"b", b"")]


async def test_a_closed_store_opens_again_with_what_it_had(store: KeyValueStore) -> None:
    async with asyncio.TaskGroup() as tasks:
        for number in range(20):
            tasks.create_task(store.write({b"%d" % number: b"1"}), name="write")
        await asyncio.sleep(0)
        await store.close()
    assert len(await read_all(store)) == 20
    await store.close()
    await store.close()
    assert len(await read_all(store)) == 20


async def test_a_cancelled_write_happens_as_a_whole_or_not_at_all(store: KeyValueStore) -> None:
    for number in range(50):
        async with asyncio.TaskGroup() as tasks:
            writing = [
                tasks.create_task(store.write({b"%d/%d/%d" % (number, each, key): b"" for key in range(50)}), name="it")
                for each in range(3)
            ]
            for _ in range(number % 5):
                await asyncio.sleep(0)
            writing[number % 3].cancel()
        for each, write in enumerate(writing):
            keys = len(await store.scan(b"%d/%d/" % (number, each)))
            assert keys in ((0, 50) if write.cancelled() else (50,))


KEYS = st.binary(min_size=1, max_size=3) | st.sampled_from([b"a", b"a\xff", b"\xff", b"\xff\xff", b"a\x00"])
STEPS = st.one_of(
    st.tuples(st.just("write"), st.dictionaries(KEYS, st.binary(max_size=3)), st.sets(KEYS)),
    st.tuples(st.just("scan"), st.binary(max_size=2), st.binary(max_size=2), st.integers(1, 4)),
    st.tuples(st.just("get"), st.lists(KEYS)),
    st.tuples(st.just("close")),
    st.tuples(st.just("purge")),
)


async def play(store: KeyValueStore, steps: list[Any]) -> None:
    model: dict[bytes, bytes] = {}
    for what, *arguments in steps:
        match what, arguments:
            case "write", [puts, deletes]:
                deletes -= puts.keys()
                await store.write(puts, deletes)
                model = {key: value for key, value in model.items() if key not in deletes} | puts
            case "scan", [prefix, after, limit]:
                expected = sorted(pair for pair in model.items() if pair[0].startswith(prefix) and pair[0] > after)
                assert await store.scan(prefix, after=after, limit=limit) == expected[:limit]
            case "get", [keys]:
                assert await store.get(keys) == {key: model[key] for key in keys if key in model}
            case _:
                await getattr(store, what)()
    assert await read_all(store, limit=2) == sorted(model.items())
    await store.close()


@given(st.lists(STEPS, max_size=12))
def test_a_store_is_like_a_sorted_dict(steps: list[Any]) -> None:
    asyncio.run(play(MemoryStore(), steps))
    with TemporaryDirectory() as folder:
        asyncio.run(play(StoreFile(Path(folder), "crm", "mine"), steps))
    asyncio.run(play(StoreTable(make_shared_database(), 0, "", "crm", uuid4().hex), steps))


@cache
def make_shared_database() -> Database:
    return start_shared_server().make_database()


# What is on disk


async def test_a_store_makes_its_file_at_its_first_use(tmp_path: Path) -> None:
    store = StoreFile(tmp_path, "crm", "mine")
    await store.close()
    assert [*tmp_path.iterdir()] == []
    assert await store.get([b"a"]) == {}
    files = [*(tmp_path / STORES).iterdir()]
    assert {path.name for path in files} >= {"mine.crm.db"}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert (tmp_path / STORES).stat().st_mode & 0o777 == 0o700
    await store.close()


async def test_connectors_do_not_see_each_others_keys(tmp_path: Path) -> None:
    stores = [
        StoreFile(tmp_path / place, *whose)
        for place, *whose in (
            ("", "crm", "mine"),
            ("", "crm", "min"),
            ("", "chat", "mine"),
            ("workers/1", "crm", "mine"),
        )
    ]
    (tmp_path / "workers" / "1").mkdir(parents=True)
    for number, store in enumerate(stores):
        await store.write({b"key": b"%d" % number})
    assert [await read_all(store) for store in stores] == [[(b"key", b"%d" % number)] for number in range(4)]
    for store in stores:
        await store.close()
    found = EmbeddedStores(tmp_path)
    assert (found.list_connectors("crm"), found.list_connectors("crm", worker=1)) == (["min", "mine"], ["mine"])
    assert (found.list_connectors("chat"), found.list_connectors("none")) == (["mine"], [])
    with found.read("crm", "mine", worker=1) as reader:
        assert reader.get([b"key"]) == {b"key": b"3"}
    remove_stores(tmp_path, "mine")
    assert (found.list_connectors("crm"), found.list_connectors("chat")) == (["min"], [])
    assert len([*(tmp_path / STORES).iterdir()]) == 1, "neither its file nor its log"


async def test_what_was_deleted_leaves_no_trace_after_a_purge(tmp_path: Path, embedded: StoreFile) -> None:
    await embedded.write({b"user/%d" % number: b"of %d" % number for number in range(3000)} | {b"u/anna": b"anna"})
    connection_of(embedded).execute("PRAGMA secure_delete = OFF").close()  # SQLite does not overwrite pages by itself
    await embedded.write({b"u/bert": b"bert"}, [b"u/anna", *(b"user/%d" % number for number in range(0, 3000, 2))])
    assert files_with(b"anna", tmp_path), "or the test shows nothing"
    await embedded.purge()
    assert [name for text in (b"anna", b"of 2000") for name in files_with(text, tmp_path)] == []
    assert files_with(b"of 2001", tmp_path)
    assert len(await read_all(embedded)) == 1501


async def test_a_reader_sees_one_moment_and_holds_up_a_purge_alone(
    tmp_path: Path, embedded: StoreFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin_store, "LOCKED_S", 0.05)
    await embedded.write({b"a%04d" % number: b"before" for number in range(3000)})
    with EmbeddedStores(tmp_path).read("crm", "mine") as reader:
        pairs = reader.scan(b"a")
        first = next(pairs)
        await embedded.write({b"a%04d" % number: b"after" for number in range(3000)}, [b"b"])
        assert {value for _, value in [first, *pairs]} == {b"before"}
        assert reader.get([b"a0000", b"none"]) == {b"a0000": b"before"}
        assert [*reader.scan(b"b")] == []
        assert next(reader.scan(b"a", after=b"a0007")) == (b"a0008", b"before")
        with pytest.raises(StoreError, match=r"mine\.crm\.db: another process is reading it"):
            await embedded.purge()
        await embedded.write({b"c": b"3"})
    await embedded.purge()
    with EmbeddedStores(tmp_path).read("crm", "mine") as reader:
        assert reader.get([b"c", b"a0007"]) == {b"c": b"3", b"a0007": b"after"}


async def test_a_store_without_a_table_is_empty_to_a_reader(tmp_path: Path) -> None:
    (tmp_path / STORES).mkdir()
    (tmp_path / STORES / "mine.crm.db").touch()
    with EmbeddedStores(tmp_path).read("crm", "mine") as reader:
        assert (reader.get([b"a"]), [*reader.scan(b"")]) == ({}, [])
    with (
        pytest.raises(StoreError, match=r"other\.crm\.db: there is no such store"),
        EmbeddedStores(tmp_path).read("crm", "other"),
    ):
        pass


async def fill_the_disk(store: StoreFile, path: Path) -> None:
    db = connection_of(store)
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count = {pages}").close()


async def lock(store: StoreFile, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    LOCKS.append(other)


LOCKS: list[sqlite3.Connection] = []


@pytest.fixture(autouse=True)
def unlocked() -> Iterator[None]:
    yield
    while LOCKS:
        LOCKS.pop().close()


async def damage(store: StoreFile, path: Path) -> None:
    await store.close()
    path.write_bytes(b"no database at all" * 1000)


async def make_newer(store: StoreFile, path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 2")
    await store.close()


async def replace_folder(store: StoreFile, path: Path) -> None:
    await store.close()
    path.parent.rename(path.parents[1] / "moved")
    path.parent.touch()


@pytest.mark.parametrize(
    ("break_it", "advice"),
    [
        (fill_the_disk, "database or disk is full; make room on its file system"),
        (lock, "database is locked; another process holds it: find that by fuser, and end it"),
        (damage, "file is not a database; it is damaged: stop relay, and put the file of a backup in its place"),
        (make_newer, "it is of a newer relay"),
        (replace_folder, "File exists"),
    ],
)
async def test_a_store_that_fails_says_where_and_what_to_do(
    tmp_path: Path,
    embedded: StoreFile,
    monkeypatch: pytest.MonkeyPatch,
    break_it: Callable[[StoreFile, Path], Awaitable[None]],
    advice: str,
) -> None:
    monkeypatch.setattr(plugin_store, "LOCKED_S", 0.05)
    path = tmp_path / STORES / "mine.crm.db"
    await embedded.write({b"a": b"1"})
    await break_it(embedded, path)
    with pytest.raises(StoreError, match=f"^{path}: {advice}"):
        await embedded.write({b"%d" % number: b"x" * 1000 for number in range(100)})


async def test_a_failed_write_changes_nothing_and_the_next_one_goes_on(tmp_path: Path, embedded: StoreFile) -> None:
    await embedded.write({b"a": b"1"})
    await fill_the_disk(embedded, tmp_path)
    with pytest.raises(StoreError, match="full"):
        await embedded.write({b"%d" % number: b"x" * 1000 for number in range(100)}, [b"a"])
    assert await read_all(embedded) == [(b"a", b"1")]
    connection_of(embedded).execute("PRAGMA max_page_count = 100000").close()
    await embedded.write({b"b": b"2"})
    assert await read_all(embedded) == [(b"a", b"1"), (b"b", b"2")]
