"""The comments of conf.d are what the models say of the settings."""

from pathlib import Path

import pytest

from tests.docs.generate.conf_d import with_comments

FILE = """\
# A head that stays.

[connector.archive]
type = "file"
# Something else than the model says,
# on two lines.
path = "archive/{date}.ndjson"
# compress = "none"

# A hint that stays.

# keep = "30d"
"""
MADE = """\
# A head that stays.

[connector.archive]
type = "file"
# Path of the files, relative to the state folder. It may hold {date}, {hour} (both UTC, of receipt), {type}, {source}
# and {worker}.
path = "archive/{date}.ndjson"
# Compression of the files. "gzip" adds `.gz` to the name, "zstd" adds `.zst`.
# compress = "none"

# A hint that stays.

# How long a file stays after its last write; then it is removed. 0: files stay.
# keep = "30d"
"""


def test_a_comment_above_a_setting_is_what_its_model_says(tmp_path: Path) -> None:
    file = tmp_path / "50-archive.toml"
    for text in (FILE, MADE):
        file.write_text(text)
        assert with_comments(file) == MADE


def test_a_setting_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "50-archive.toml"
    file.write_text(FILE.replace("# keep", "# kep"))
    with pytest.raises(LookupError, match=r"50-archive\.toml: there is no setting kep"):
        with_comments(file)
