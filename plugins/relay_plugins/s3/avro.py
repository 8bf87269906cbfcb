"""Objects in Avro, with the storage schemas of Currents: names, order and types of the fields are the vendor's."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from io import BytesIO
from typing import Any, Final

import msgspec
import orjson

from relay.api import Batch, StorageField, find_storage_fields
from relay_plugins.s3.form import Encoded, Misfit

NAMESPACE: Final = "dataexport.S3.inner."
"""What stands before the event type in the full name of a record (facts of the vendor's sample files)."""
REQUIRED: Final = ("id", "time")
"""The fields that an event must have. The vendor requires more, and leaves some of these out of Custom HTTP."""
CODECS: Final = {"none": "null", "gzip": "deflate", "zstd": "zstandard"}
LEVELS: Final = {"gzip": 2}
BLOCK_BYTES: Final = 64 << 10
"""Bytes of a block before compression."""
LARGEST_FLOAT: Final = (2 - 2**-23) * 2.0**127
LONGEST_NAME: Final = 100


def _is_whole(bits: int) -> Callable[[Any], bool]:
    limit = 1 << bits - 1
    return lambda value: type(value) is int and -limit <= value < limit


FITS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "string": lambda value: type(value) is str,
    "boolean": lambda value: type(value) is bool,
    "int": _is_whole(32),
    "long": _is_whole(64),
    "float": lambda value: type(value) in (int, float) and abs(value) <= LARGEST_FLOAT,
    "json": lambda value: type(value) is dict,
}
"""Whether a value is one of an Avro type. `json` is a text of an object."""
KINDS: Final = {
    "string": "text",
    "boolean": "true or false",
    "int": "whole number of 32 bits",
    "long": "whole number of 64 bits",
    "float": "number of 32 bits",
    "json": "object",
    "array": "list of texts",
}


class Avro:
    """The form `avro`. Events of a type without a schema, and events that their schema cannot hold, do not fit."""

    content_type = "application/avro"
    one_type = True
    ending = ".avro"

    def __init__(self, compress: str) -> None:
        """`compress`: `none`, `gzip` or `zstd`, which are the codecs null, deflate and zstandard."""
        self._codec, self._level = CODECS[compress], LEVELS.get(compress)
        self._find_record = lru_cache(256)(Record)

    def encode(self, batch: Batch) -> Encoded:
        """Return an object container file. Its sync marker follows from the events."""
        from fastavro import writer

        event_type = batch.blocks[0].kinds[batch.blocks[0].index[0]].type
        if not find_storage_fields(event_type):
            reason = f"the type {event_type[:LONGEST_NAME]} has no storage schema"
            return Encoded(b"", dict.fromkeys(range(len(batch)), reason))
        record, misfits, file = self._find_record(event_type), dict[int, str](), BytesIO()

        # A generator lets other threads run after each event; a list would have fastavro keep them waiting.
        def make_values() -> Iterator[Mapping[str, Any]]:
            number = 0
            for block in batch.blocks:
                for body in block.bodies():
                    try:
                        yield record.make_value(body)
                    except Misfit as error:
                        misfits[number] = str(error)
                    number += 1

        marker = blake2b(batch.id.encode(), digest_size=16).digest()
        writer(
            file,
            record.schema,
            make_values(),
            self._codec,
            BLOCK_BYTES,
            sync_marker=marker,
            codec_compression_level=self._level,
        )
        return Encoded(file.getvalue(), misfits)


class Record:
    """The storage schema of an event type, and how an event fills it."""

    def __init__(self, event_type: str) -> None:
        from fastavro import parse_schema

        self._type, fields = event_type, find_storage_fields(event_type)
        namespace, _, name = f"{NAMESPACE}{event_type}".rpartition(".")
        described = [_describe(field) for field in fields]
        self.schema = parse_schema({"type": "record", "name": name, "namespace": namespace, "fields": described})
        self._places = dict[str, dict[str, StorageField]]()
        for field in fields:
            *outer, inner = field.path or ("properties", field.name)
            self._places.setdefault(".".join(outer), {})[inner] = field
        self._texts = [(field.name, _make_reader(field.path)) for field in fields if field.avro_type == "json"]

    def make_value(self, body: bytes) -> Mapping[str, Any]:
        """Return the values of the fields in an event. Raises Misfit unless the schema holds all of the event."""
        try:
            event = orjson.loads(body)
        except (ValueError, RecursionError) as error:
            raise Misfit(f"the event cannot be decoded: {error}") from None
        if not isinstance(event, dict):
            raise Misfit("the event is no JSON object")
        if event.pop("event_type", None) != self._type:
            raise Misfit("event_type is another than that by which relay knows the event")
        value, top = dict[str, Any](), dict[str, Any]()
        for name, inner in event.items():
            if isinstance(inner, dict) and (name in self._places or not inner):
                self._fill(value, name, inner)
            else:
                top[name] = inner
        self._fill(value, "", top)
        if missing := [name for name in REQUIRED if name not in value]:
            raise Misfit(f"the event has no {missing[0]}")
        for name, read in self._texts:
            if name in value:
                value[name] = read(body)
        return value

    def _fill(self, value: dict[str, Any], place: str, found: Mapping[str, Any]) -> None:
        fields = self._places.get(place, {})
        for name, one in found.items():
            field = fields.get(name)
            if field is None:
                path = f"{place}.{name}".lstrip(".")
                raise Misfit(f"{path[:LONGEST_NAME]} is not in the storage schema")
            if one is not None:
                value[field.name] = _convert(field, one)


def _describe(field: StorageField) -> Mapping[str, Any]:
    avro_type = "string" if field.avro_type == "json" else field.avro_type
    if field.name in REQUIRED:
        return {"name": field.name, "type": avro_type}
    return {"name": field.name, "type": ["null", avro_type], "default": None}


def _convert(field: StorageField, value: Any) -> Any:
    """Return a value for Avro, but for JSON text. Raises Misfit for a value of another type."""
    if isinstance(field.avro_type, str):
        kind, fits = field.avro_type, FITS[field.avro_type](value)
    else:
        texts: tuple[type, ...] = (str, type(None)) if isinstance(field.avro_type["items"], list) else (str,)
        kind, fits = "array", isinstance(value, list) and all(isinstance(one, texts) for one in value)
    if not fits:
        raise Misfit(f"{'.'.join(field.path) or field.name} is no {KINDS[kind]}")
    return value


def _make_reader(path: Sequence[str]) -> Callable[[bytes], str]:
    """Make a function that returns the text of the value at a path, as it came: numbers of any size keep their digits.
    The value must be there. The function raises Misfit for an event with one of the names twice, and odd values."""
    part: Any = msgspec.Raw
    for step in reversed(path):
        part = msgspec.defstruct("Part", [("inner", part)], rename={"inner": step}, gc=False)
    decode, depth = msgspec.json.Decoder(part).decode, len(path)

    def read(body: bytes) -> str:
        try:
            found = decode(body)
        except msgspec.ValidationError:
            raise Misfit(f"{'.'.join(path)} is there twice") from None
        for _ in range(depth):
            found = found.inner
        return bytes(found).decode()

    return read
