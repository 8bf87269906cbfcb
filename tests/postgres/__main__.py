"""Says which servers the tests lack on this machine, and how to install them: `make test` begins with that."""

from collections.abc import Iterator

import pytest

from tests.postgres.pooler import find_pgbouncer
from tests.postgres.server import find_program


def find_missing() -> Iterator[str]:
    """Yield a sentence for each server that is not installed."""
    for find in (lambda: find_program("initdb"), find_pgbouncer):
        try:
            find()
        except (pytest.skip.Exception, pytest.fail.Exception) as error:
            yield str(error)


for sentence in find_missing():
    print(f"Tests are skipped: {sentence}")
