"""The suite of all connectors for `s3`: a real server, behind a front that fails as a behaviour says."""

from collections.abc import Iterator
from io import BytesIO
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final

import aiohttp
import orjson
import pytest
from aiohttp import web

pytest.importorskip("obstore", reason="the connector takes the package currents-relay[s3]")
pytest.importorskip("moto", reason="the server of the tests takes moto[s3] and flask")

from relay.api import Secret
from relay.testing import (
    Answer,
    ConnectorSuite,
    Destination,
    HttpDestination,
    Received,
    SuiteDestination,
    find_ids,
    make_event,
)
from relay_plugins.s3 import S3
from tests.object_store import ObjectStore, run_object_store

_buckets = count(1)
RECEIVED: Final = web.RequestKey("received", Received)


class Front(Destination):
    """Has a real store answer the requests that it does not refuse."""

    def __init__(self, store: str) -> None:
        super().__init__()
        self._store = store

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        response = await super()._handle(request)
        taken = request[RECEIVED]
        if not taken.taken:
            return response
        connector = aiohttp.TCPConnector(force_close=True)
        async with (
            aiohttp.ClientSession(self._store, connector=connector) as session,
            session.request(taken.method, taken.target, headers=taken.headers, data=BytesIO(taken.body)) as answer,
        ):
            if response.prepared or "Content-Encoding" in response.headers:
                return response
            headers = {name: answer.headers[name] for name in ("Content-Type", "ETag") if name in answer.headers}
            return web.Response(status=answer.status, headers=headers, body=await answer.read())

    def _record(self, request: web.BaseRequest, body: bytes, status: int | None) -> None:
        super()._record(request, body, status)
        request[RECEIVED] = self.requests[-1]


def read(name: str, body: bytes) -> bytes:
    """Return the bytes of an object that have the id of each event once."""
    if not name.endswith(".parquet"):
        return body
    from pyarrow.parquet import read_table

    return " ".join(read_table(BytesIO(body), columns=["id"])["id"].to_pylist()).encode()


class Bucket(HttpDestination):
    """A bucket of its own."""

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(Answer(headers={"ETag": '"1"'}, body=b""))
        self._store, self._name = store, f"suite-{next(_buckets)}"
        self.server = Front(store.url)

    async def __aenter__(self) -> "Bucket":
        self._store.make_bucket(self._name)
        await super().__aenter__()
        self.address = (self.server.url, self._name)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, traceback)
        self._store.forget()

    async def arrived(self) -> list[str]:
        objects = self._store.list_objects(self._name)
        return [found for name, body in objects.items() for found in find_ids(read(name, body))]

    async def distinct(self) -> list[str]:
        return await self.arrived()


@pytest.fixture(autouse=True, scope="module")
def store() -> Iterator[None]:
    with run_object_store() as S3Suite.store:
        yield


class S3Suite(ConnectorSuite):
    format: ClassVar[str]
    store: ClassVar[ObjectStore]
    varies = ("authorization",)  # a signature of the second in which a request is made
    lacks: ClassVar = {
        "answers": "obstore gives no status",
        "rejected": "a store takes or refuses an object as a whole, and never for one of its events",
        "retry_after": "obstore does not give this header",
        "retry_after_date": "obstore does not give this header",
    }

    def destination(self, folder: Path) -> SuiteDestination:
        return Bucket(self.store)

    def make(self, address: Any, token: Secret, folder: Path) -> S3:
        url, bucket = address
        table = {"bucket": bucket, "endpoint": url, "access_key": token, "secret_key": token, "compress": "none"}
        return S3("lake", S3.Settings(type="s3", format=self.format, **table), folder=folder)


class TestNdjson(S3Suite):
    format = "ndjson"


class TestAvro(S3Suite):
    format = "avro"

    def make_event(self, id: str) -> bytes:
        """Return an event that its schema can hold."""
        return orjson.dumps(orjson.loads(make_event()) | {"id": id})


@pytest.mark.long
class TestParquet(S3Suite):
    format = "parquet"
