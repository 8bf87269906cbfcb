"""The fields of Currents' storage schemas, and where events of Custom HTTP have the values.

`storage_fields.csv` is made by `tests/make_storage_fields.py`.
"""

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

FILE: Final = Path(__file__).with_name("storage_fields.csv")


class StorageField(NamedTuple):
    """A field of an event type, as Currents writes it into object storage."""

    name: str
    """Name in the storage schema, such as `external_user_id`."""
    avro_type: Any
    """Avro type of a value: `"string"`, `"int"`, `"long"`, `"float"`, `"boolean"`, or a mapping for an array. `"json"`:
    a string with JSON text, where the event has an object."""
    path: tuple[str, ...]
    """Where an event of Custom HTTP has the value, such as `("user", "user_id")`; empty: no sample shows the place."""
    is_personal: bool
    """Whether Braze marks the field as personal."""


def find_storage_fields(event_type: str) -> Sequence[StorageField]:
    """Return the fields of an event type, in the vendor's order; none for a type without a storage schema.

    The source is version 10 of the schemas in the vendor's sample files (Appboy/currents-examples, d6a71e3). Custom
    HTTP has a few fields more than storage, such as `user.device_id` of emails. These fields are at the end.
    """
    return _read_fields().get(event_type, ())


@cache
def find_personal_fields() -> tuple[tuple[str, ...], ...]:
    """Return the paths of the fields that Braze marks as personal, those of most event types first.

    Four fields of `users.profile.Update` have a mark and no sample, and so no path.
    """
    every = [field for fields in _read_fields().values() for field in fields]
    times = Counter(field.path for field in every if field.is_personal and field.path)
    return tuple(sorted(times, key=lambda path: (-times[path], path)))


@cache
def find_known_paths() -> frozenset[tuple[str, ...]]:
    """Return the paths of all fields, of all event types. A field whose place is not known counts as a property."""
    places = {path or f"properties.{name}" for _, name, _, path, _ in _read_rows()}  # few of many rows differ
    return frozenset(tuple(place.split(".")) for place in places) | {("event_type",)}


@cache
def _read_fields() -> Mapping[str, Sequence[StorageField]]:
    fields = defaultdict[str, list[StorageField]](list)
    for event_type, name, avro, path, mark in _read_rows():
        avro_type = json.loads(avro) if avro.startswith("{") else avro
        fields[event_type].append(StorageField(name, avro_type, tuple(path.split(".")) if path else (), bool(mark)))
    return fields


def _read_rows() -> Iterator[list[str]]:
    with FILE.open(encoding="utf-8", newline="") as lines:
        rows = csv.reader(lines)
        next(rows)  # the names of the columns
        yield from rows
