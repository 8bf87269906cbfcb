"""The log is for people: no flood, the message first."""

import fcntl
import json
import logging
import os
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from relay.config.model import LogSettings
from relay.logs.log_writer import LogWriter
from relay.logs.logs import (
    MESSAGES,
    QUIET_S,
    VARIANTS,
    Repeats,
    change_logs,
    count_dropped_lines,
    set_up_logs,
)


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


def test_whatever_plugins_log_takes_bounded_memory() -> None:
    repeats = Repeats(lambda: 0.0)
    for number in range(MESSAGES + 10):
        repeats(None, "warning", {"event": f"{number} {'x' * 2000}", "source": ["a"], "reason": {"a": number}})
    assert len(repeats._told) <= MESSAGES
    assert max(len(str(key)) for key in repeats._told) < 2000


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Have relay's log go to this file descriptor."""

    def begin(fd: int, **settings: Any) -> None:
        monkeypatch.setattr("relay.logs.logs.sys", SimpleNamespace(stderr=SimpleNamespace(fileno=lambda: fd)))
        set_up_logs(LogSettings(**settings))

    before = logging.getLogger().level
    yield begin
    structlog.reset_defaults()
    logging.captureWarnings(False)
    logging.getLogger().setLevel(before)
    for handler in [one for one in logging.getLogger().handlers if isinstance(one, LogWriter)]:
        logging.getLogger().removeHandler(handler)
        handler.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe with 4 KiB of room."""
    ends = os.pipe()
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, 4096)
    yield ends
    for end in ends:
        with suppress(OSError):
            os.close(end)


@pytest.mark.parametrize("blocking", [True, False])
def test_nobody_who_reads_the_log_makes_lines_drop_and_not_wait(
    logs: Callable[[int], None], pipe: tuple[int, int], *, blocking: bool
) -> None:
    """Looked at beside it: a full disk, a reader that is gone, closed streams (below, and with a real relay)."""
    os.set_blocking(pipe[1], blocking)
    logs(pipe[1])
    log, number = structlog.stdlib.get_logger(), 0
    while count_dropped_lines() < 10:
        number += 1
        log.info("it happened", number=number, filling="x" * 1000)
    lines: list[dict[str, Any]] = []
    with os.fdopen(os.dup(pipe[0])) as reader:
        while not lines or lines[-1]["message"] != "log lines were dropped":
            lines.append(json.loads(reader.readline()))
    told = lines.pop()
    assert [line["number"] for line in lines] == [*range(1, number - 10 + 1)]
    assert (told["level"], told["lines"]) == ("warning", 10)


def test_a_disk_that_is_full_costs_lines_and_leaves_none_torn(logs: Callable[[int], None], tmp_path: Path) -> None:
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    logs(fd)
    log, before = structlog.stdlib.get_logger(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        for number in range(50):
            log.info("it happened", number=number)
        logging.getLogger().handlers[0].flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (dropped := count_dropped_lines()) >= 40
    log.info("it goes on")
    while b"were dropped" not in (tmp_path / "log").read_bytes():
        logging.getLogger().handlers[0].flush()
    *whole, torn, on, told = (tmp_path / "log").read_text().splitlines()
    assert [json.loads(line)["number"] for line in whole] == [*range(50 - dropped)]
    assert torn.startswith('{"timestamp"')
    assert not torn.endswith("}")
    assert (json.loads(on)["message"], json.loads(told)["lines"]) == ("it goes on", dropped)
    os.close(fd)


def test_a_line_is_json_that_begins_with_when_how_bad_and_what(
    logs: Callable[[int], None], pipe: tuple[int, int]
) -> None:
    logs(pipe[1])
    structlog.stdlib.get_logger().warning("it happened", connector="x", events=3)
    line = json.loads(os.read(pipe[0], 4096))
    assert list(line)[:3] == ["timestamp", "level", "message"]
    assert (line["message"], line["connector"], line["events"]) == ("it happened", "x", 3)


EVIL = "evil\x1b[31m\x9b2J\x7f\u202e\u200b\ufeff\U000e0041\r\x07"


@pytest.mark.parametrize("format", ["console", "json"])
def test_no_value_commands_the_terminal(logs: Callable[..., None], tmp_path: Path, format: str) -> None:
    """Looked at: text with and without spaces, lists, mappings, exceptions, the message, lines of libraries."""
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    logs(fd, format=format)
    log = structlog.stdlib.get_logger()
    values = {"type": EVIL, "reason": f"no {EVIL}", "counts": {EVIL: 1}, "types": [EVIL], "error": ValueError(EVIL)}
    log.warning("it happened", **values)
    log.error(EVIL, exc_info=ValueError(EVIL))
    logging.getLogger("library").warning("it said %s", EVIL)
    log.warning("half a character", file="\udcff")
    logging.getLogger().handlers[0].flush()
    os.close(fd)
    text = (tmp_path / "log").read_text()
    assert not set(EVIL[4:].replace("[31m", "").replace("2J", "")) & set(text)
    assert text.count("evil") == 8
    if format == "json":
        first, second, third, last = map(json.loads, text.splitlines())
        assert (first["type"], first["counts"], first["types"]) == (EVIL, {EVIL: 1}, [EVIL])
        assert second["message"] == EVIL
        assert third["message"] == f"it said {EVIL}"
        assert last["file"] == "\udcff"
    else:
        assert "type=evil\\u001b[31m\\u009b2J\\u007f\\u202e" in text


@pytest.mark.parametrize("colors", [False, True])
def test_only_relay_itself_colours_a_line(logs: Callable[..., None], *, colors: bool) -> None:
    reader, fd = os.openpty() if colors else os.pipe()  # a terminal gets colours
    logs(fd, format="console")
    logging.getLogger("library").warning("it said %s", EVIL)
    logging.getLogger().handlers[0].flush()
    line = os.read(reader, 65536).decode()
    for end in (reader, fd):
        os.close(end)
    assert "it said evil\\u001b[31m" in line
    assert ("\x1b[" in line) is colors
    assert "\x1b[31m\x9b" not in line


@pytest.mark.parametrize("format", ["console", "json"])
def test_each_line_for_the_journal_has_its_priority(
    logs: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    """Lines of a traceback as well, and what a text has in its second line."""
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    about = os.fstat(fd)
    monkeypatch.setenv("JOURNAL_STREAM", f"{about.st_dev}:{about.st_ino}")
    logs(fd, format=format, level="debug")
    log = structlog.stdlib.get_logger()
    log.debug("d")
    log.info("i\n<0>not mine")
    log.warning("w")
    log.error("e", exc_info=ValueError("no"))
    logging.getLogger("library").critical("c")
    logging.getLogger().handlers[0].flush()
    os.close(fd)
    lines = (tmp_path / "log").read_text().splitlines()
    found = {line[:3]: line for line in lines}
    assert [*dict.fromkeys(line[:3] for line in lines)] == ["<7>", "<6>", "<4>", "<3>", "<2>"]
    assert ("Error: no" in found["<3>"], "c" in found["<2>"]) == (True, True)
    if format == "console":
        assert "<6><0>not mine" in "\n".join(lines)
        assert sum(line.startswith("<3>") for line in lines) > 1


def test_without_the_journal_there_are_no_priorities(
    logs: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:12345")  # a shell that was started by a service, and writes elsewhere
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    logs(fd, format="json")
    structlog.stdlib.get_logger().warning("w")
    logging.getLogger().handlers[0].flush()
    os.close(fd)
    assert (tmp_path / "log").read_text().startswith('{"timestamp"')


def test_level_and_format_change_from_one_line_to_the_next(logs: Callable[..., None], tmp_path: Path) -> None:
    """Also of a logger that has written before."""
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    logs(fd, format="json", level="warning")
    log = structlog.stdlib.get_logger()
    for level, shape in (("warning", "json"), ("debug", "json"), ("error", "console"), ("info", "json")):
        change_logs(LogSettings(level=level, format=shape))
        for method in ("debug", "info", "warning", "error"):
            getattr(log, method)(f"{level} {method}", always=True)
    logging.getLogger().handlers[0].flush()
    os.close(fd)
    lines = (tmp_path / "log").read_text().splitlines()
    told = [re.findall(r"(\w+) (debug|info|warning|error)\b", line)[0] for line in lines]
    assert told == [
        *[("warning", method) for method in ("warning", "error")],
        *[("debug", method) for method in ("debug", "info", "warning", "error")],
        ("error", "error"),
        *[("info", method) for method in ("info", "warning", "error")],
    ]
    shapes = [line[0] == "{" for line in lines]
    assert shapes == [True] * 6 + [False] + [True] * 3
