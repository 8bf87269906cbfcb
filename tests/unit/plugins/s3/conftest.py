from collections.abc import Iterator
from itertools import count

import pytest

pytest.importorskip("obstore", reason="the connector takes the package currents-relay[s3]")
pytest.importorskip("moto", reason="the server of the tests takes moto[s3] and flask")

from relay_plugins.s3 import S3
from tests.object_store import ObjectStore, run_object_store

_buckets = count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStore]:
    with run_object_store() as store:
        yield store


@pytest.fixture
def bucket(server: ObjectStore) -> str:
    server.make_bucket(name := f"lake-{next(_buckets)}")
    return name


@pytest.fixture
async def make(connect, server, bucket, monkeypatch):
    monkeypatch.setenv("RELAY_TEST_ACCESS", "access-key-id")
    monkeypatch.setenv("RELAY_TEST_SECRET", "secret-of-s3")
    keys = {"access_key": {"env": "RELAY_TEST_ACCESS"}, "secret_key": {"env": "RELAY_TEST_SECRET"}}

    async def open_one(**more):
        connector = connect(S3, **{"bucket": bucket, "endpoint": server.url} | keys | more)
        await connector.open()
        return connector

    return open_one
