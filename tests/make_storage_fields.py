"""Makes relay/api/currents/storage_fields.csv: `python -m tests.make_storage_fields TABLE`.

TABLE is a CSV with a row for each field of the vendor's storage schemas, in the order of the schemas. Its columns:
event_type, avro_name, avro_namespace, field, avro_type, presence, custom_http_path, pii.
"""

import csv
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from relay.api.currents.storage_fields import FILE

NAMESPACE: Final = "dataexport.S3.inner."
AS_JSON: Final = " (as JSON text)"
Row = tuple[str, str, str, str, str]

HTTP_ONLY: Final = {
    "device_id": ("user.device_id", "user_id"),
    "dispatch_id": ("properties.dispatch_id", "campaign_id"),
    "canvas_step_message_variation_api_id": (
        "properties.canvas_step_message_variation_api_id",
        "canvas_step_message_variation_id",
    ),
}
"""Fields that Custom HTTP has and the schemas of some types lack: the path, and a field that such types have.

The vendor's samples show the fields in some of these types. relay expects them in all of these types.
"""
HTTP_ONLY_BY_TYPE: Final = {
    "users.messages.pushnotification.IosForeground": ("device_model", "os_version"),
    "users.messages.whatsapp.Send": ("canvas_variation_name",),
}
"""The same for single types: names of properties."""


def make_rows(table: Iterable[Mapping[str, str]]) -> Iterator[Row]:
    """Yield the rows of the file: event type, field, Avro type, path, mark. Raises ValueError for an odd record name.

    A field without a path gets the path that it has in other types.
    """
    found = [*table]
    paths = {row["field"]: row["custom_http_path"] for row in reversed(found) if row["custom_http_path"]}
    by_type = dict[str, list[Row]]()
    for row in found:
        event_type, name = row["event_type"], row["field"]
        if f"{row['avro_namespace']}.{row['avro_name']}" != NAMESPACE + event_type:
            raise ValueError(f"{event_type}: the record is not called {NAMESPACE}{event_type}")
        path = row["custom_http_path"] or paths.get(name, "")
        avro_type = "json" if path.endswith(AS_JSON) else row["avro_type"]
        own = event_type, name, avro_type, path.removesuffix(AS_JSON), row["pii"].lower()
        by_type.setdefault(event_type, []).append(own)
    for event_type, rows in by_type.items():
        yield from rows
        names = {name for _, name, *_ in rows}
        for name, (path, beside) in HTTP_ONLY.items():
            if beside in names and name not in names:
                yield event_type, name, "string", path, ""
        for name in HTTP_ONLY_BY_TYPE.get(event_type, ()):
            yield event_type, name, "string", f"properties.{name}", ""


def main() -> None:
    """Write the file from the table."""
    with (
        Path(sys.argv[1]).open(encoding="utf-8", newline="") as table,
        FILE.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["event_type", "field", "avro_type", "path", "mark"])
        writer.writerows(make_rows(csv.DictReader(table)))


if __name__ == "__main__":
    main()
