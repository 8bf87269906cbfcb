"""How the code of plugins is called."""

import asyncio
import time

import pytest
from structlog.testing import capture_logs

from relay.guests import BLOCKED_S, Escape, quick


def test_a_call_that_blocks_is_told_with_the_name_of_its_plugin() -> None:
    with capture_logs() as logs, quick("decode", source="slow"):
        time.sleep(BLOCKED_S)
    (line,) = logs
    assert (line["event"], line["source"], line["call"]) == ("a plugin held up relay", "slow", "decode")
    assert line["seconds"] >= BLOCKED_S


def test_a_quick_call_is_not_told_and_what_it_raises_is_an_exception() -> None:
    with capture_logs() as logs, pytest.raises(Escape, match="CancelledError"), quick("decode", source="odd"):
        raise asyncio.CancelledError
    assert not [line for line in logs if line["seconds"] < BLOCKED_S]
