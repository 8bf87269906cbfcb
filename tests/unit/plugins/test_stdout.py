"""What counts as delivered is on standard output, in whole lines, whatever that is: a file, a full disk, a pipe.

Looked at beside it: two connectors on one standard output, a pipe that does not block, a reader that is gone, a file
that another process has left in the middle of a line. The connector `file` cuts what it could not write whole.
"""

import errno
import fcntl
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from relay.api import DELIVERED
from relay_plugins import stdout as plugin
from relay_plugins.stdout import Stdout

EVENTS = range(1, 101)


@pytest.fixture
def to(monkeypatch):
    """Have standard output be this file descriptor."""
    monkeypatch.setattr(plugin, "OUTPUT", plugin.Output())
    stream = SimpleNamespace(fileno=lambda: stream.fd)
    monkeypatch.setattr(plugin, "sys", SimpleNamespace(stdout=stream))  # sys.stdout itself is pytest's
    return lambda fd: setattr(stream, "fd", fd)


@pytest.fixture
def file(to, tmp_path) -> Iterator[Path]:
    fd = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    to(fd)
    yield tmp_path / "out"
    os.close(fd)


@pytest.fixture
def pipe(to):
    """The end to read of a pipe with 4 KiB of room, and the end to write."""
    ends = os.pipe()
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, 4096)
    to(ends[1])
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            continue


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def left(events, outcomes) -> list[int]:
    """The events that have to come again."""
    return [event for event, outcome in zip(events, outcomes or [], strict=bool(outcomes)) if outcome != DELIVERED]


async def test_events_are_lines_on_standard_output(connect, make_batch, make_event, capfdbinary):
    stdout = connect(Stdout)
    assert await stdout.deliver(make_batch(make_event(b'{\n"id":1}'), make_event(b'{"id":2}'))) is None
    assert capfdbinary.readouterr().out == b'{ "id":1}\n{"id":2}\n'


async def test_what_is_delivered_is_not_held_back(connect, make_batch, file):
    await connect(Stdout).deliver(make_batch(1))
    assert file.read_bytes() == make_batch(1).lines()


async def test_a_line_cut_at_any_byte_is_finished_before_the_next(connect, make_batch, file, monkeypatch):
    stdout, whole = connect(Stdout), make_batch(1, 2, 3).lines()
    for cut in range(len(whole)):
        size = file.stat().st_size
        with files_of_at_most(size + cut):
            outcomes = await stdout.deliver(make_batch(1, 2, 3))
        assert outcomes[-1].reason == f"standard output: {os.strerror(errno.EFBIG)}"
        assert await stdout.deliver(make_batch(*left([1, 2, 3], outcomes))) is None
        assert file.read_bytes()[size:] == whole


async def test_a_line_cut_once_more_is_still_finished(connect, make_batch, file):
    stdout, whole = connect(Stdout), make_batch(1, 2).lines()
    events = [1, 2]
    for size in range(1, len(whole)):
        with files_of_at_most(size):
            events = left(events, await stdout.deliver(make_batch(*events)))
    assert await stdout.deliver(make_batch(*events)) is None
    assert file.read_bytes() == whole


async def test_the_line_of_one_connector_is_finished_before_that_of_another(connect, make_batch, file):
    with files_of_at_most(10):
        assert left([1], await connect(Stdout).deliver(make_batch(1))) == [1]
    assert await connect(Stdout).deliver(make_batch(2)) is None
    assert file.read_bytes() == make_batch(1, 2).lines()


async def test_a_line_that_another_process_left_is_ended(connect, make_batch, file):
    file.write_bytes(b'{"id":"to')
    await connect(Stdout).deliver(make_batch(1))
    assert file.read_bytes() == b'{"id":"to\n' + make_batch(1).lines()


@pytest.mark.parametrize("blocking", [True, False])
async def test_a_pipe_that_nobody_reads_loses_and_doubles_nothing(connect, make_batch, pipe, blocking):
    os.set_blocking(pipe[1], blocking)
    stdout, expected = connect(Stdout, timeout="100ms"), make_batch(*EVENTS).lines() * 3
    events = [*EVENTS] * 3
    outcomes = await stdout.deliver(make_batch(*events))
    assert outcomes[0] == DELIVERED
    assert (outcomes[-1].reason, outcomes[-1].hold_lane) == ("standard output: nobody reads it", False)
    (again,) = await stdout.deliver(make_batch(events[0]))
    assert (again.reason, again.hold_lane) == ("standard output: nobody reads it", True)
    came = []
    reader = threading.Thread(target=lambda: came.extend(iter(lambda: os.read(pipe[0], 100), b"")))
    reader.start()
    while events := left(events, outcomes):
        outcomes = await stdout.deliver(make_batch(*events))
    os.close(pipe[1])
    reader.join()
    assert b"".join(came) == expected


async def test_delivery_waits_for_a_reader_that_has_left(connect, make_batch, pipe):
    os.close(pipe[0])
    (outcome,) = await connect(Stdout).deliver(make_batch(1))
    assert outcome.reason == "standard output: Broken pipe"


@pytest.mark.parametrize("stdout", [None, SimpleNamespace(fileno=lambda: os.open(os.devnull, os.O_RDONLY))])
async def test_a_standard_output_that_is_closed_is_told(connect, make_batch, monkeypatch, stdout):
    monkeypatch.setattr(plugin, "sys", SimpleNamespace(stdout=stdout))
    (outcome,) = await connect(Stdout).deliver(make_batch(1))
    assert outcome.reason == "standard output is closed"
