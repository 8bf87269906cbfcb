"""Reads the events of a file: NDJSON, a JSON array, {"events": [...]}, or one event."""

from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import IO

from relay.api import Walk


def read_events(file: IO[bytes], torn: list[int] | None) -> Iterator[bytes]:
    """Yield the events of a file, byte for byte. NDJSON is read line by line; any other form is read whole.

    With `torn`, lines that are no JSON by themselves are left out, and their numbers go into `torn`. Such a line could
    end the list of all events. Raises ValueError."""
    first, before = b"", 0
    while not first and (line := file.readline()):
        first, before = line.removeprefix(BOM_UTF8).strip(), before + 1
    try:
        is_event = all(name != b"events" for name, _ in Walk(first).members())
    except ValueError:
        is_event = False
    if is_event:
        yield first
        for number, line in enumerate(map(bytes.strip, file), before + 1):
            if line and torn is not None and not Walk(line).is_one_value():
                torn.append(number)
            elif line:
                yield line
        return
    try:
        yield from map(bytes, _split_document((first + b"\n" + file.read()).strip()))
    except ValueError as error:
        raise ValueError(f"neither NDJSON nor JSON: {error}") from None


def _split_document(text: bytes) -> Iterator[bytes | memoryview]:
    """Yield the events of an array, an envelope or one event. Raises ValueError."""
    if not text:
        return
    walk = Walk(text)
    if text.startswith(b"["):
        yield from walk.elements()
        return
    is_envelope = False
    for name, at in walk.members():
        if name == b"events":
            is_envelope = True
            yield from walk.elements(at)
    if not is_envelope:
        yield text
