"""A broker's side of logins by SASL: PLAIN (RFC 4616) and SCRAM (RFC 5802)."""

import hashlib
import hmac
from base64 import b64decode, b64encode
from typing import Final

MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
SALT: Final = b"salt of the test"
ITERATIONS: Final = 4096
NONCE: Final = "nonce-of-the-broker"
USER: Final = "relay"


class Login:
    """One login of the user `relay`, by a mechanism."""

    def __init__(self, mechanism: str, password: str) -> None:
        self._mechanism, self._password = mechanism, password
        self._hash = mechanism.rpartition("SCRAM-")[2].replace("-", "").lower()
        self._said = ""
        self.is_known = False

    def answer(self, said: bytes) -> bytes | None:
        """Return what the broker answers; None if it refuses the login."""
        if self._mechanism == "PLAIN":
            self.is_known = said.split(b"\0") == [USER.encode(), USER.encode(), self._password.encode()]
            return b"" if self.is_known else None
        text = said.decode()
        return self._challenge(text.partition("n,,")[2]) if not self._said else self._check(text)

    def _challenge(self, first: str) -> bytes | None:
        fields = dict(part.split("=", 1) for part in first.split(","))
        if fields["n"] != USER:
            return None
        challenge = f"r={fields['r']}{NONCE},s={b64encode(SALT).decode()},i={ITERATIONS}"
        self._said = f"{first},{challenge}"
        return challenge.encode()

    def _check(self, final: str) -> bytes | None:
        without_proof, _, proof = final.partition(",p=")
        salted = hashlib.pbkdf2_hmac(self._hash, self._password.encode(), SALT, ITERATIONS)
        both = f"{self._said},{without_proof}".encode()
        key = self._sign(salted, b"Client Key")
        signature = self._sign(hashlib.new(self._hash, key).digest(), both)
        self.is_known = bytes(a ^ b for a, b in zip(key, signature, strict=True)) == b64decode(proof)
        own = self._sign(self._sign(salted, b"Server Key"), both)
        return b"v=" + b64encode(own) if self.is_known else None

    def _sign(self, key: bytes, message: bytes) -> bytes:
        return hmac.new(key, message, self._hash).digest()
