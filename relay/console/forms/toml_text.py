"""Reads and writes a value as TOML in a text field. Pure."""

from typing import Any, Final

from relay.config import Mistake, parse_document
from relay.words import format_toml, format_toml_key

MOST_BYTES: Final = 64 << 10
"""Of a field: reading holds up all other requests."""


def read_toml(text: str) -> Any:
    """Read a value as it stands behind `name =`, or the lines of a table. Raises ValueError with what is wrong."""
    if len(text) > MOST_BYTES:
        raise ValueError(f"a field has at most {MOST_BYTES >> 10} KiB: write a file")
    value = parse_document("", "", f"value = {text}".encode(errors="surrogatepass"))
    if not isinstance(value, Mistake) and [*value.table] == ["value"]:
        return value.table["value"]
    table = parse_document("", "", text.encode(errors="surrogatepass"))
    if not isinstance(table, Mistake):
        return table.table
    found = table if isinstance(value, Mistake) and "=" in text.partition("\n")[0] else value
    raise ValueError(found.reason if isinstance(found, Mistake) else "write one value, or the lines of a table")


def write_toml(value: Any) -> str:
    """Write a value so that `read_toml` returns it: tables and lists of tables with a line for each entry."""
    match value:
        case {} if value:
            return "\n".join(f"{format_toml_key((key,))} = {format_toml(item)}" for key, item in value.items())
        case [{}, *_]:
            return "\n".join(["[", *(f"  {format_toml(item)}," for item in value), "]"])
    return format_toml(value)
