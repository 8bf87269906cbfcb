"""Depths of JSON that decoders refuse: 1,000 to 10,000 levels up to Python 3.13, and 260,000 from 3.14 on."""

import sys
from typing import Final

import pytest

LEVELS: Final = 20_000
"""Most decoders refuse so many, and relay still finds their end."""
TOO_MANY_LEVELS: Final = 400_000
"""So many are refused by every decoder, and by relay."""
IS_TAKEN: Final = sys.version_info >= (3, 14)
"""Whether decoders take `LEVELS`."""
refused = pytest.mark.skipif(IS_TAKEN, reason="decoders of this Python take whatever relay finds the end of")
