import gc

import pytest


@pytest.fixture(scope="module", autouse=True)
def _own_garbage() -> None:
    """Suites collect garbage again and again: what other tests have left is looked at once."""
    gc.collect()
    gc.freeze()
