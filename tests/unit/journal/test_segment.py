"""What a segment file holds."""

from pathlib import Path

import pytest

from relay.journal.segment import read_written


@pytest.mark.parametrize("zeros", [0, 1, 1 << 20, (3 << 20) + 7])
@pytest.mark.parametrize("start", [0, 40])
def test_what_is_written_is_read_without_the_zeros_behind(tmp_path: Path, zeros: int, start: int) -> None:
    written = b"head" + bytes(2 << 20) + b"tail"
    path = tmp_path / "segment"
    path.write_bytes(written + bytes(zeros))
    with path.open("rb") as file:
        assert read_written(file.fileno(), start) == written[start:]
