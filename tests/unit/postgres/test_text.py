"""Texts that PostgreSQL does not take."""

from contextlib import closing

import pytest

from tests.postgres import start_shared_server


@pytest.mark.parametrize("text", ["", "plain", "a\0b", "a\x1ab", "\x1a0000", "\0\x1a\0", "\ud83d alone", "pair 😀"])
def test_every_text_comes_back_as_it_was(text: str) -> None:
    with closing(start_shared_server().make_database()) as database, database.connect() as db:
        assert db.run("SELECT %s::text, %s::text[]", [text, [text, None]]).fetchone() == (text, [text, None])
