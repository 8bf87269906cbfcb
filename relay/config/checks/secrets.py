"""Checks secrets: those in plain text, those that cannot be read, and those that are probably not what was meant."""

import os
from collections.abc import Iterator

from relay.api import Secret
from relay.config.excerpt import explain_plain_secret
from relay.config.line_numbers import KeyPath
from relay.config.merge import Merged, is_reference, list_leaves
from relay.config.mistake import Mistake


def find_plain_secrets(merged: Merged) -> Iterator[Mistake]:
    """Find what looks like a secret in plain text."""
    for path, text in list_leaves((), merged.table):
        if isinstance(text, str) and (reason := explain_plain_secret(path, text)):
            yield merged.make_mistake(path, reason, private=True)


def find_unread_secrets(path: KeyPath, table: object, merged: Merged) -> Iterator[tuple[Secret, Mistake]]:
    """Find secrets that cannot be read: of settings, or, in a table with mistakes, of anything like a reference."""
    for place, leaf in list_leaves(path, table):
        secret = Secret.parse(leaf) if isinstance(table, dict) and is_reference(leaf) else leaf
        if isinstance(secret, Secret) and secret.problem is not None:
            yield secret, merged.make_mistake(place, secret.problem, private=True)


def find_doubtful_secrets(path: KeyPath, settings: object, merged: Merged) -> Iterator[Mistake]:
    """Find secrets whose value is probably not what was meant."""
    for place, leaf in list_leaves(path, settings):
        if isinstance(leaf, Secret) and leaf.doubt is not None:
            yield merged.make_mistake(place, leaf.doubt, private=True)


def is_only_elsewhere(secret: Secret) -> bool:
    """Return whether systemd would pass the secret, and has not started this process."""
    return secret.how == "credential" and "CREDENTIALS_DIRECTORY" not in os.environ
