"""The log is for people: no flood, the message first."""

import json
from typing import Any

import pytest
import structlog

from relay.config import LogSettings
from relay.runtime import set_up_logs
from relay.runtime.logs import QUIET_S, VARIANTS, Repeats


def test_a_warning_is_repeated_once_a_minute_with_the_number_held_back() -> None:
    now = 0.0
    repeats = Repeats(lambda: now)

    def say(level: str, **line: Any) -> dict[str, Any] | None:
        try:
            return dict(repeats(None, level, line))
        except structlog.DropEvent:
            return None

    assert say("warning", event="refused", source="a") == {"event": "refused", "source": "a"}
    assert say("warning", event="refused", source="b") == {"event": "refused", "source": "b"}
    now = QUIET_S - 1
    assert [say("warning", event="refused", source="a") for _ in range(3)] == [None] * 3
    assert say("info", event="refused", source="a") is not None
    now = QUIET_S
    assert say("warning", event="refused", source="a") == {"event": "refused", "source": "a", "repeated": 3}
    now = 2 * QUIET_S
    assert say("warning", event="refused", source="a") == {"event": "refused", "source": "a"}


def test_each_reason_is_told_but_not_any_number_of_them() -> None:
    now = 0.0
    repeats = Repeats(lambda: now)

    def say(reason: str) -> int | None:
        try:
            return int(
                repeats(None, "warning", {"event": "refused", "source": "a", "reason": reason}).get("repeated", 0)
            )
        except structlog.DropEvent:
            return None

    assert [say(reason) for reason in ("forged", "stale", "forged", "stale")] == [0, 0, None, None]
    assert sum(say(f"made up {number}") is not None for number in range(1000)) < 2 * VARIANTS
    now = QUIET_S
    assert say("forged") == 1
    assert say("entirely new") is not None


def test_what_is_refused_to_another_client_is_told() -> None:
    repeats = Repeats(lambda: 0.0)

    def say(client: str) -> bool:
        try:
            return bool(repeats(None, "warning", {"event": "refused", "status": 401, "client": client, "reason": "no"}))
        except structlog.DropEvent:
            return False

    assert [say(client) for client in ("192.0.2.1", "192.0.2.1", "192.0.2.2")] == [True, False, True]
    assert sum(say(f"2001:db8::{number:x}") for number in range(1000)) < 2 * VARIANTS
    assert len(repeats._told) == 1


def test_a_line_is_json_that_begins_with_when_how_bad_and_what(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        set_up_logs(LogSettings())
        structlog.stdlib.get_logger().warning("it happened", connector="x", events=3)
        line = json.loads(capsys.readouterr().err)
    finally:
        structlog.reset_defaults()
    assert list(line)[:3] == ["timestamp", "level", "message"]
    assert (line["message"], line["connector"], line["events"]) == ("it happened", "x", 3)
