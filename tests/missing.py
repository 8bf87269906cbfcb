"""What becomes of a test whose program or package is not on this machine: the test is skipped, and fails in CI."""

import os
from typing import Final, NoReturn

import pytest

IN_CI: Final = "CI" in os.environ


def give_up(said: str) -> NoReturn:
    """Skip the running test with a sentence that says what to install. In CI, fail it."""
    if IN_CI:
        pytest.fail(said)
    pytest.skip(said)
