"""Objects in Parquet: a row for each event, with the columns of the table that the connector `postgres` fills."""

from collections.abc import Iterator
from io import BytesIO
from itertools import islice
from typing import Any, Final

from relay.api import Batch, Event, UnreadableEvent
from relay_plugins.braze_events import read_user_ids
from relay_plugins.s3.form import Encoded

COLUMNS: Final = ("id", "type", "time", "received", "source", "user_id", "external_user_id", "device_id", "event")
TIMES: Final = ("time", "received")
REPEATING: Final = ("type", "source")
"""Columns of few different values. Their pages hold a number for each value."""
CODECS: Final = {"none": "none", "gzip": "gzip", "zstd": "zstd"}
LEVELS: Final = {"gzip": 2}
ROWS_AT_ONCE: Final = 1000
"""Events that are columns of Python objects at a time."""
LATEST_S: Final = 253_402_300_800.0
"""The year 10000, beyond which many readers have no time."""


class Parquet:
    """The form `parquet`. Events that are no readable JSON, or have no id, do not fit."""

    content_type = "application/vnd.apache.parquet"
    one_type = False
    ending = ".parquet"

    def __init__(self, compress: str) -> None:
        """`compress`: `none`, `gzip` or `zstd`, which is the codec of the columns."""
        self._codec, self._level = CODECS[compress], LEVELS.get(compress)

    def encode(self, batch: Batch) -> Encoded:
        """Return a file with one group of rows."""
        import pyarrow
        from pyarrow import parquet

        moment = pyarrow.timestamp("ms", tz="UTC")
        schema = pyarrow.schema([(name, moment if name in TIMES else pyarrow.string()) for name in COLUMNS])
        misfits, file = dict[int, str](), BytesIO()
        rows, parts = _make_rows(batch, misfits), []
        while some := [*islice(rows, ROWS_AT_ONCE)]:
            columns = [
                pyarrow.array(values, field.type) for values, field in zip(zip(*some, strict=True), schema, strict=True)
            ]
            parts.append(pyarrow.record_batch(columns, schema=schema))
        parquet.write_table(
            pyarrow.Table.from_batches(parts, schema),
            file,
            row_group_size=max(1, len(batch)),
            compression=self._codec,
            compression_level=self._level,
            use_dictionary=[*REPEATING],
        )
        return Encoded(file.getvalue(), misfits)


def _make_rows(batch: Batch, misfits: dict[int, str]) -> Iterator[tuple[Any, ...]]:
    """Yield the values of each event in the order of COLUMNS, and put the others into `misfits`."""
    number = 0
    for block in batch.blocks:
        for event in block:
            try:
                yield _make_row(event)
            except UnreadableEvent as error:
                misfits[number] = error.reason
            number += 1


def _make_row(event: Event) -> tuple[Any, ...]:
    return (
        event.id,
        event.type,
        _read_milliseconds(event.time),
        _read_milliseconds(event.received),
        event.source,
        *read_user_ids(event),
        event.body.decode(),
    )


def _read_milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None or abs(seconds) >= LATEST_S else round(seconds * 1000)
