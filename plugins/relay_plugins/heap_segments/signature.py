"""Checks that Heap signed a call: `Heap-Hash: ts:<ms>,hmac:<base64>`.

The HMAC-SHA256 is over the timestamp and the body. (Heap docs, Segments Sync.)
"""

import base64
import hmac
import re
import time
from typing import Final

from relay.api import Denied, Malformed, why_unreadable
from relay_plugins.heap_segments.stringify import stringify

HEADER: Final = "Heap-Hash"
AHEAD_S: Final = 1.0
"""Longest time by which a signature may be in the future. (Heap docs, Segments Sync: the reference server.)"""
STAMP: Final = re.compile(r"\d{1,15}", re.ASCII)


def check_signature(header: str | None, body: bytes, secret: bytes, *, max_age: float, reserialize: bool) -> None:
    """Raise `Denied` unless the header signs the body and is at most `max_age` seconds old. Raise `Malformed` if the
    header or, with `reserialize`, the body cannot be read."""
    if header is None:
        raise Denied("the header Heap-Hash is missing")
    fields = dict(part.strip().partition(":")[::2] for part in header.split(","))
    try:
        stamp, given = fields["ts"], base64.b64decode(fields["hmac"], validate=True)
    except (KeyError, ValueError):
        stamp = ""
    if not STAMP.fullmatch(stamp):
        raise Malformed("the header Heap-Hash is not of the form ts:<milliseconds>,hmac:<base64>")
    age = time.time() - int(stamp) / 1000
    if age < -AHEAD_S:
        raise Denied(f"the signature is from {-age:.0f} s in the future: is a clock wrong?")
    if age > max_age:
        raise Denied(f"the signature is {age:.0f} s old, {max_age:g} s are allowed: is a clock wrong?")
    try:
        signed = stringify(body) if reserialize else body
    except (ValueError, RecursionError) as error:
        raise Malformed(f"the body is not JSON: {why_unreadable(error)}") from None
    if not hmac.compare_digest(hmac.digest(secret, stamp.encode() + signed, "sha256"), given):
        raise Denied("the signature does not fit: is the secret the webhook's?")
