"""The connector type `s3`: events as objects in a bucket of S3, or of any store that speaks S3."""

import gzip
import string
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal
from urllib.parse import quote

from pydantic import Field, field_validator

from relay.api import (
    Batch,
    Connector,
    ConnectorSettings,
    Contradiction,
    HttpUrl,
    Outcome,
    Secret,
    Skipped,
    User,
    load_zstd,
)

if TYPE_CHECKING:
    from obstore.store import S3Store

HOUR_S: Final = 3600
GZIP_LEVEL: Final = 2
LONGEST_PART: Final = 256
"""Characters of a text of a sender in a key. A key has at most 1,024 bytes."""
PLACEHOLDERS: Final = ("date", "hour", "type", "source", "worker")
ENDINGS: Final = {"none": "", "gzip": ".gz", "zstd": ".zst"}
ATTRIBUTES: Final = {"Content-Type": "application/x-ndjson"}


class S3(
    Connector,
    type="s3",
    batch={"events": 15_000, "size": "64MiB", "age": "5m", "group_by": ["type", "hour"]},
):
    """Writes events as NDJSON into objects, in the layout in which Currents itself writes into buckets.

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
        compress: Literal["none", "gzip", "zstd"] = "gzip"
        """Compression of the objects. `"gzip"` adds `.gz` to the name, `"zstd"` adds `.zst`."""

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
        self._compress = _find_compressor(settings.compress)
        self._store: S3Store | None = None

    async def open(self) -> None:
        """Prepare the client of the store. A delivery connects. Raises ValueError if obstore takes no such settings."""
        self._store = self._make_store()

    async def probe(self) -> str:
        """Connect to the store. Raises `Retry`."""
        settings = self.settings
        return await self.reach(settings.endpoint or f"https://s3.{settings.region}.amazonaws.com")

    async def deliver(self, batch: Batch) -> None:
        """Write an object for each place that the events have. Raises `Retry`, `Reject`, `Unauthorized`."""
        for place, share in self._divide(batch):
            name = f"{place}/{self.worker}-{share.id}.ndjson{ENDINGS[self.settings.compress]}".lstrip("/")
            await self._put(name, await self.run_blocking(self._make_object, share))

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

    def _divide(self, batch: Batch) -> Iterator[tuple[str, Batch]]:
        """Yield each place and its events: one, unless `batch.group_by` and `path` differ."""
        places = defaultdict[str, list[int]](list)
        number = 0
        for block in batch.blocks:
            hour = block.received // HOUR_S
            of_kind = [self._place(hour, kind.type, kind.source) for kind in block.kinds]
            for kind in block.index:
                places[of_kind[kind]].append(number)
                number += 1
        for place, numbers in places.items():
            yield place, batch if len(numbers) == len(batch) else batch.pick(numbers)

    def _make_place(self, hour: float, type: str, source: str) -> str:
        moment = datetime.fromtimestamp(hour * HOUR_S, UTC)
        return self.settings.path.strip("/").format(
            date=f"{moment:%Y-%m-%d}",
            hour=f"{moment:%H}",
            type=escape(type),
            source=escape(source),
            worker=self.worker,
        )

    def _make_object(self, batch: Batch) -> bytes:
        lines = batch.lines()
        return lines if self._compress is None else self._compress(lines)

    async def _put(self, name: str, body: bytes) -> None:
        from obstore import put_async
        from obstore.exceptions import BaseError

        from relay_plugins.s3.refusal import read_error

        assert self._store is not None  # noqa: S101  relay opens a connector before it delivers
        try:
            await put_async(self._store, name, body, attributes=ATTRIBUTES, use_multipart=False)
        except (BaseError, FileNotFoundError) as error:
            raise read_error(error, self.settings.bucket) from None


def escape(text: str) -> str:
    """Return a sender's text as a part of a key that leads nowhere else: `../x` is `%2E%2E%2Fx`."""
    escaped = quote(text[:LONGEST_PART], safe="=+@ ") or "_"
    return escaped.replace(".", "%2E") if escaped.startswith(".") else escaped


def _find_compressor(how: str) -> Callable[[bytes], bytes] | None:
    """Return the function that makes an object of lines; None for plain lines. The same lines give the same bytes."""
    if how == "none":
        return None
    if how == "gzip":
        return lambda lines: gzip.compress(lines, GZIP_LEVEL, mtime=0)
    compress: Callable[[bytes], bytes] = load_zstd().compress
    return compress
