"""Objects with an event in each line, as the exact bytes that came."""

import gzip
from collections.abc import Callable, Mapping
from typing import Final

from relay.api import Batch, load_zstd
from relay_plugins.s3.form import Encoded

try:
    from isal import igzip

    gzip_compress: Callable[..., bytes] = igzip.compress
except ImportError:  # four times slower, and the objects are no smaller
    gzip_compress = gzip.compress

GZIP_LEVEL: Final = 2
ENDINGS: Final = {"none": "", "gzip": ".gz", "zstd": ".zst"}
NO_MISFITS: Final[Mapping[int, str]] = {}


class Ndjson:
    """The form `ndjson`, which holds every event."""

    content_type = "application/x-ndjson"
    one_type = False

    def __init__(self, compress: str) -> None:
        """`compress`: `none`, `gzip` or `zstd`."""
        self.ending = f".ndjson{ENDINGS[compress]}"
        self._compress = _find_compressor(compress)

    def encode(self, batch: Batch) -> Encoded:
        """Return the lines, compressed."""
        lines = batch.lines()
        return Encoded(lines if self._compress is None else self._compress(lines), NO_MISFITS)


def _find_compressor(how: str) -> Callable[[bytes], bytes] | None:
    if how == "none":
        return None
    if how == "gzip":
        return lambda lines: gzip_compress(lines, GZIP_LEVEL, mtime=0)
    compress: Callable[[bytes], bytes] = load_zstd().compress
    return compress
