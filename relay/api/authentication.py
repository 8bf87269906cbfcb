"""Checks the credentials of senders: bearer tokens, secrets and HMACs. Makes the signatures that relay sends."""

import base64
import binascii
import hmac
import math
import time
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from relay.api.request import Denied
from relay.api.secret import Secret

TOLERANCE_S: Final = 300.0
MILLISECONDS: Final = 1e11
"""Timestamps beyond are in milliseconds: as seconds they would be of the year 5138."""


def check_bearer(given: str, tokens: Sequence[bytes]) -> None:
    """Raise `Denied` unless an Authorization header has one of the bearer tokens (RFC 6750).

    `tokens`: whole headers, such as `Bearer TOKEN`. Compares in constant time.
    """
    if _is_one_of(given, tokens):  # as it nearly always is written
        return
    scheme, _, token = given.partition(" ")
    if scheme.lower() != "bearer" or not _is_one_of(f"Bearer {token.strip()}", tokens):
        raise Denied("wrong bearer token" if given else "a bearer token is required")


def _is_one_of(given: str, tokens: Sequence[bytes]) -> bool:
    offered = given.encode("utf-8", "surrogateescape")
    matches = [hmac.compare_digest(offered, known) for known in tokens]  # all of them: no early exit
    return any(matches)


def check_secret(given: str | None, secret: Secret) -> None:
    """Raise `Denied` unless a sender has given the secret itself. Compares in constant time."""
    offered = (given or "").encode("utf-8", "surrogatepass")
    if not hmac.compare_digest(offered, secret.reveal().encode()):
        raise Denied("the secret is wrong" if given else "the secret is missing")


def check_hmac(
    given: str | Iterable[str] | None,
    secret: Secret | bytes,
    signed: bytes,
    *,
    prefix: str = "",
    encoding: Literal["hex", "base64"] = "hex",
    algorithm: str = "sha256",
    timestamp: str | None = None,
    tolerance: float = TOLERANCE_S,
) -> None:
    """Raise `Denied` unless one of the given signatures is the HMAC of `signed`.

    `given` is the text of the header, or several texts: some senders sign with two secrets during a change. Each text
    begins with `prefix`, such as `sha256=`. `algorithm` is a name of hashlib. `timestamp` is in Unix seconds or
    milliseconds, as it was sent. It may be `tolerance` seconds from now at most. Put the timestamp into `signed` as the
    sender does, or anybody could write another one. Takes the same time for every wrong signature.
    """
    if timestamp is not None:
        try:
            moment = float(timestamp)
        except ValueError:
            moment = math.nan
        if not math.isfinite(moment):
            raise Denied("the timestamp of the signature is missing, or no number")
        age = time.time() - (moment / 1000 if moment >= MILLISECONDS else moment)
        if abs(age) > tolerance:
            when = f"{age:.0f} s old" if age > 0 else f"from {-age:.0f} s in the future"
            raise Denied(f"the signature is {when}, {tolerance:g} s are allowed: is a clock wrong?")
    texts = [given] if isinstance(given, str) else list(given or ())
    if not any(texts):
        raise Denied("the signature is missing")
    key = secret if isinstance(secret, bytes) else secret.reveal().encode()
    expected = hmac.digest(key, signed, algorithm)
    fits = [
        hmac.compare_digest(_decode_signature(text, prefix, encoding), expected) for text in texts
    ]  # all: no early exit
    if not any(fits):
        raise Denied("the signature does not fit: is the secret the sender's?")


def _decode_signature(text: str, prefix: str, encoding: str) -> bytes:
    """Decode a signature; return no bytes if it is written in another way."""
    if not text.startswith(prefix):
        return b""
    text = text.removeprefix(prefix).strip()
    try:
        return bytes.fromhex(text) if encoding == "hex" else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return b""


def signing_key(secret: Secret) -> bytes:
    """Return the key in `whsec_...`, a secret of Standard Webhooks.

    Raises ValueError without repeating the secret.
    """
    text = secret.reveal().removeprefix("whsec_").rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise ValueError(f"signing_secret: {secret} does not hold whsec_ and base64 (Standard Webhooks)") from None


def signed_headers(key: bytes, id: str, body: bytes) -> dict[str, str]:
    """Return the headers of Standard Webhooks: HMAC-SHA256 over id.timestamp.body."""
    now = int(time.time())
    digest = hmac.digest(key, f"{id}.{now}.".encode() + body, "sha256")
    return {
        "webhook-id": id,
        "webhook-timestamp": str(now),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }
