import sys

import pytest

from relay.api import Retry
from relay_plugins.stdout import Stdout


async def test_events_are_lines_on_standard_output(connect, make_batch, make_event, capfdbinary):
    stdout = connect(Stdout)
    assert await stdout.deliver(make_batch(make_event(b'{\n"id":1}'), make_event(b'{"id":2}'))) is None
    assert capfdbinary.readouterr().out == b'{ "id":1}\n{"id":2}\n'


async def test_what_was_delivered_is_not_held_back(connect, make_batch, tmp_path, monkeypatch):
    with (tmp_path / "out").open("w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        await connect(Stdout).deliver(make_batch(1))
        assert (tmp_path / "out").read_bytes() == make_batch(1).lines()


async def test_nobody_reading_is_tried_again(connect, make_batch, monkeypatch):
    class Closed:
        @property
        def buffer(self):
            raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(Retry, match="standard output: Broken pipe"):
        await connect(Stdout).deliver(make_batch(1))
