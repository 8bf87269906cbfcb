"""The connector type `s3`: events as objects in a bucket of S3, or of any store that speaks S3."""

import string
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal
from urllib.parse import quote

from pydantic import Field, field_validator

from relay.api import (
    DELIVERED,
    Batch,
    Connector,
    ConnectorSettings,
    Contradiction,
    HttpUrl,
    Outcome,
    Reject,
    Secret,
    Skipped,
    User,
    load_zstd,
    require_library,
)

if TYPE_CHECKING:
    from obstore.store import S3Store

    from relay_plugins.s3.form import Encoded, ObjectForm

HOUR_S: Final = 3600
LONGEST_PART: Final = 256
"""Characters of a text of a sender in a key. A key has at most 1,024 bytes."""
PLACEHOLDERS: Final = ("date", "hour", "type", "source", "worker")
LIBRARIES: Final = {
    "avro": ("fastavro", "currents-relay[avro]"),
    "parquet": ("pyarrow", "currents-relay[parquet]"),
}
"""What a format needs besides, and what pip installs for it."""


class S3(
    Connector,
    type="s3",
    batch={"events": 15_000, "size": "64MiB", "age": "5m", "group_by": ["type", "hour"]},
):
    """Writes events into objects, in the layout in which Currents itself writes into buckets.

    The name of an object follows from the events in it: a batch that relay sends again writes the same object again.
    """

    # Braze docs, Currents in data storage: a file ends after 5 minutes or 15,000 events, and holds one type of events.
    requires: ClassVar[Mapping[str, str]] = {"obstore": "currents-relay[s3]"}

    class Settings(ConnectorSettings):
        """The bucket, and how objects in it are named."""

        bucket: str = Field(min_length=3, max_length=255)
        """Name of the bucket. The bucket must exist."""
        region: str = "us-east-1"
        """Region of the bucket."""
        endpoint: HttpUrl | None = None
        """URL of another store that speaks S3, such as `"https://minio.example.com:9000"`. Without `endpoint` relay
        writes to AWS."""
        access_key: Secret | None = None
        """Access key id. Without `access_key` and `secret_key`, relay takes the credentials of its environment, or of
        the machine at AWS."""
        secret_key: Secret | None = None
        """Secret access key, which belongs to `access_key`."""
        path: str = "event_type={type}/date={date}-{hour}"
        """Where objects are in the bucket. It may hold `{date}`, `{hour}` (both UTC, of receipt), `{type}`, `{source}`
        and `{worker}`.

        relay adds the name of the object. Characters in a type or source that could lead elsewhere, such as `/`, are
        percent-encoded.
        """
        format: Literal["ndjson", "avro", "parquet"] = "ndjson"
        """What objects hold: `"ndjson"` (one event per line, as it came), `"avro"` (the storage schemas of Currents) or
        `"parquet"` (columns for ids and times, and the event as JSON text).

        `"avro"` needs `currents-relay[avro]`, `"parquet"` needs `currents-relay[parquet]`.
        """
        unknown: Literal["ndjson", "park"] = "ndjson"
        """What happens to an event that `format` cannot hold: `"ndjson"` writes it into an NDJSON object beside the
        others, `"park"` parks it.

        For Avro these are events of a type without a storage schema, events with a field that the schema does not
        have, and events with a value of another type. For Parquet these are events that cannot be read, and events
        without an id.
        """
        compress: Literal["none", "gzip", "zstd"] = "gzip"
        """Compression of the objects. For NDJSON `"gzip"` adds `.gz` to the name, `"zstd"` adds `.zst`.

        In Avro the codecs are deflate for `"gzip"` and zstandard for `"zstd"`. In Parquet the columns are compressed.
        """

        window: int = Field(45_000, ge=1)
        """Maximum number of events that relay may send again after a crash. A larger batch goes out alone."""
        concurrency: int = Field(2, ge=1, le=256)
        """Maximum number of batches under way at a time. Each takes up to three times `batch.size` of memory."""

        @field_validator("path")
        @classmethod
        def _check_path(cls, path: str) -> str:
            for _, name, spec, conversion in string.Formatter().parse(path):
                if name is not None and (name not in PLACEHOLDERS or spec or conversion):
                    raise ValueError(f"{{{name}}} is none of " + ", ".join(f"{{{known}}}" for known in PLACEHOLDERS))
            parts = path.strip("/").split("/") if path else []
            if not path.isprintable() or {"", ".", ".."}.intersection(parts):
                raise ValueError(f'expected a path in the bucket such as "currents/event_type={{type}}", got {path!r}')
            return path

        @field_validator("format")
        @classmethod
        def _check_format(cls, format: str) -> str:
            if needed := LIBRARIES.get(format):
                require_library(*needed)
            return format

        @field_validator("compress")
        @classmethod
        def _check_compress(cls, compress: str) -> str:
            if compress == "zstd":
                load_zstd()
            return compress

        def contradictions(self) -> Iterator[Contradiction]:
            """Yield one of the two keys without the other."""
            yield from super().contradictions()
            if (self.access_key is None) != (self.secret_key is None):
                yield "access_key secret_key", "access_key and secret_key belong together: set both, or neither"

    settings: Settings

    def __init__(self, name: str, settings: Settings, *, folder: Path) -> None:
        super().__init__(name, settings, folder=folder)
        self._place = lru_cache(1024)(self._make_place)
        self._ndjson = make_form("ndjson", settings.compress)
        self._form = make_form(settings.format, settings.compress)
        self._store: S3Store | None = None

    async def open(self) -> None:
        """Prepare the client of the store. A delivery connects. Raises ValueError if obstore takes no such settings."""
        self._store = self._make_store()

    async def probe(self) -> str:
        """Connect, and ask the bucket for an object that is not there. Raises `Retry`, `Unauthorized`.

        Without `access_key`, only connect: credentials of the service's environment are not here.
        """
        settings = self.settings
        there = await self.reach(settings.endpoint or f"https://s3.{settings.region}.amazonaws.com")
        if settings.access_key is None:
            return there
        from relay_plugins.s3.refusal import check_bucket

        place = settings.path.partition("{")[0].lstrip("/")
        await check_bucket(self._make_store(), settings.bucket, f"{place}relay-doctor")
        return f"the bucket {settings.bucket} is there and takes the credentials; the right to write is not tested"

    async def deliver(self, batch: Batch) -> list[Outcome] | None:
        """Write an object for each place that the events have. Raises `Retry`, `Reject`, `Unauthorized`."""
        parked = dict[int, str]()
        for place, numbers in self._divide(batch):
            share = batch if len(numbers) == len(batch) else batch.pick(numbers)
            misfits = await self._write(place, share)
            parked.update((numbers[number], reason) for number, reason in misfits.items())
        if not parked:
            return None
        return [Reject(parked[number]) if number in parked else DELIVERED for number in range(len(batch))]

    async def erase(self, users: Sequence[User]) -> list[Outcome]:
        """Return `Skipped`: relay does not change objects that it has written."""
        where = f"s3://{self.settings.bucket}/{self.settings.path.partition('{')[0]}"
        return [Skipped(f"objects are yours: {where} may still have the user")] * len(users)

    async def close(self) -> None:
        """Forget the client, and its connections with it."""
        self._store = None

    def _make_store(self) -> "S3Store":
        from obstore.store import S3Store

        settings, more = self.settings, dict[str, Any]()
        if settings.endpoint:
            more |= {"endpoint": settings.endpoint.rstrip("/"), "virtual_hosted_style_request": False}
        if settings.access_key and settings.secret_key:
            more |= {
                "access_key_id": settings.access_key.reveal(),
                "secret_access_key": settings.secret_key.reveal(),
            }
        limit = timedelta(seconds=settings.timeout)
        return S3Store(
            settings.bucket,
            region=settings.region,
            client_options={
                "timeout": limit,
                "allow_http": bool(settings.endpoint and settings.endpoint.startswith("http:")),
            },
            retry_config={"max_retries": 0, "retry_timeout": limit},
            **more,
        )

    def _divide(self, batch: Batch) -> Iterator[tuple[str, list[int]]]:
        """Yield each place and the numbers of its events. It is one, unless `batch.group_by` and `path` differ."""
        objects = defaultdict[tuple[str, str], list[int]](list)
        number = 0
        for block in batch.blocks:
            hour = block.received // HOUR_S
            of_kind = [
                (self._place(hour, kind.type, kind.source), kind.type if self._form.one_type else "")
                for kind in block.kinds
            ]
            for kind in block.index:
                objects[of_kind[kind]].append(number)
                number += 1
        for (place, _), numbers in objects.items():
            yield place, numbers

    async def _write(self, place: str, share: Batch) -> Mapping[int, str]:
        """Write an object, and a second one with what does not fit in. Return which events have to be parked."""
        encoded = await self.run_blocking(self._form.encode, share)
        if not encoded.misfits:
            await self._put(place, share, self._form, encoded)
            return encoded.misfits
        if fitting := [number for number in range(len(share)) if number not in encoded.misfits]:
            await self._put(place, share.pick(fitting), self._form, encoded)
        if self.settings.unknown == "park":
            return encoded.misfits
        others = share.pick(sorted(encoded.misfits))
        await self._put(place, others, self._ndjson, await self.run_blocking(self._ndjson.encode, others))
        self.metrics.add("unknown", len(others))
        return {}

    def _make_place(self, hour: float, type: str, source: str) -> str:
        moment = datetime.fromtimestamp(hour * HOUR_S, UTC)
        return self.settings.path.strip("/").format(
            date=f"{moment:%Y-%m-%d}",
            hour=f"{moment:%H}",
            type=escape(type),
            source=escape(source),
            worker=self.worker,
        )

    async def _put(self, place: str, events: Batch, form: "ObjectForm", encoded: "Encoded") -> None:
        """Write an object. Its name follows from the events in it."""
        from obstore import put_async
        from obstore.exceptions import BaseError

        from relay_plugins.s3.refusal import read_error

        name = f"{place}/{self.worker}-{events.id}{form.ending}".lstrip("/")
        attributes = {"Content-Type": form.content_type}
        assert self._store is not None  # noqa: S101  relay opens a connector before it delivers
        try:
            await put_async(self._store, name, encoded.body, attributes=attributes, use_multipart=False)
        except (BaseError, FileNotFoundError) as error:
            raise read_error(error, self.settings.bucket) from None


def make_form(format: str, compress: str) -> "ObjectForm":
    """Return how objects hold events. Imports the module of the format alone."""
    if format == "avro":
        from relay_plugins.s3.avro import Avro

        return Avro(compress)
    if format == "parquet":
        from relay_plugins.s3.parquet import Parquet

        return Parquet(compress)
    from relay_plugins.s3.ndjson import Ndjson

    return Ndjson(compress)


def escape(text: str) -> str:
    """Return a sender's text as a part of a key that leads nowhere else: `../x` is `%2E%2E%2Fx`."""
    escaped = quote(text[:LONGEST_PART], safe="=+@ ") or "_"
    return escaped.replace(".", "%2E") if escaped.startswith(".") else escaped
